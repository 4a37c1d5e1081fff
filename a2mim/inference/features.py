"""Features of images.

Axes: B batch, C channels, (h, w) features.
"""

import torch
from torch import Tensor, nn

from a2mim.inference.images import Image, as_batch


@torch.no_grad()
def features(model: nn.Module, image: Image, *, pooled: bool = False) -> Tensor:
    """What the trunk of ``model`` makes of an image, nothing hidden.

    Args:
        model: From ``load_model``; it should be in evaluation mode, as it is when loaded.
        image: See ``as_batch``.
        pooled: One vector per image, the mean over all positions. A classifier pools as its own
            head does.

    Returns:
        (B, C, h, w), or (B, C) if ``pooled``.

    Raises:
        ValueError, TypeError, FileNotFoundError: If the image is none that the model can take.
    """
    batch = as_batch(model, image)
    if not hasattr(model, 'classifier_loss'):
        found = model(batch)
        return found.mean(dim=(2, 3)) if pooled else found
    if pooled:
        return model(batch, mode='tensor')
    trunk = model.backbone.model
    options = dict(indices=1, norm=True, output_fmt='NCHW', intermediates_only=True)
    return trunk.forward_intermediates(batch, **options)[-1]
