"""Models: algorithms and the parts that they build by name."""

from a2mim.models import backbones, heads, losses, necks
from a2mim.models.algorithms import A2MIM, ImageClassifier, SimMIM, StageProbe
from a2mim.models.data_preprocessor import ImagePreprocessor

__all__ = [
    'A2MIM',
    'ImageClassifier',
    'ImagePreprocessor',
    'SimMIM',
    'StageProbe',
    'backbones',
    'heads',
    'losses',
    'necks',
]
