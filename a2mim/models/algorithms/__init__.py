"""Algorithms: what is trained, and what its loss is."""

from a2mim.models.algorithms.a2mim import A2MIM
from a2mim.models.algorithms.classifier import ImageClassifier
from a2mim.models.algorithms.simmim import SimMIM
from a2mim.models.algorithms.stage_probe import StageProbe

__all__ = ['A2MIM', 'ImageClassifier', 'SimMIM', 'StageProbe']
