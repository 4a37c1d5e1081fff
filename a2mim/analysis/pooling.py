"""One vector for an image out of any timm model.

Axes: B batch, C features.
"""

from timm.models.hiera import Hiera
from torch import Tensor

from a2mim.analysis.subject import Subject


def pooled_features(subject: Subject, batch: Tensor) -> Tensor:
    """Mean over positions of the last feature map, (B, C), of normalised images.

    Class and register tokens are left out.
    """
    # Hiera's norm comes behind its own pooling, and timm refuses to apply it to a map.
    norm = not isinstance(subject.model, Hiera)
    options = dict(indices=1, norm=norm, output_fmt='NCHW', intermediates_only=True)
    return subject.model.forward_intermediates(batch, **options)[-1].mean(dim=(2, 3))
