"""Images with patches dropped: at random, the salient ones first, or the background first.

Axes: B images, C channels, (H, W) pixels, (h, w) patches.

Reference:
    Naseer et al., Intriguing Properties of Vision Transformers, NeurIPS 2021
    (https://arxiv.org/abs/2105.10497). They find salient patches with a second network (DINO) and
    drop to black; here the network itself says what is salient, and the fill is the mean colour.
"""

import numpy as np
import torch
from torch import Tensor

from a2mim.masking import fill_hidden, num_hidden_blocks

ORDERS = ('random', 'salient', 'background')


def patch_mask(saliency: Tensor, ratio: float, order: str, rng: np.random.Generator) -> Tensor:
    """Which patches to drop: exactly ``ceil(ratio * h * w)`` of every image.

    Args:
        saliency: (B, h, w), of which only the order within an image counts.
        ratio: Share of dropped patches, in [0, 1].
        order: ``'random'``, ``'salient'``: the highest first, ``'background'``: the lowest first.
        rng: Of the random order.

    Returns:
        (B, h, w) float32, 1 where dropped.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1] or ``order`` is unknown.
    """
    if order not in ORDERS:
        raise ValueError(f'order {order!r} must be one of {", ".join(ORDERS)}')
    number = num_hidden_blocks(saliency.shape[1:], ratio)
    keys = saliency.flatten(1)  # (B, h·w)
    if order == 'random':
        keys = torch.from_numpy(rng.random(tuple(keys.shape)))
    dropped = keys.argsort(dim=1, descending=order == 'salient')[:, :number]
    mask = torch.zeros(keys.shape, device=keys.device).scatter_(1, dropped, 1.0)
    return mask.view(saliency.shape)


def drop_patches(pixels: Tensor, mask: Tensor) -> Tensor:
    """Grey levels (B, C, H, W) with the patches of ``mask`` (B, h, w) in the image's mean colour.

    Returns float32, as the mean colour is no whole number.
    """
    return fill_hidden(pixels.float(), mask.to(pixels.device))


def patch_saliency(gradient: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean magnitude of an input gradient (B, C, H, W) in each patch, (B, h, w)."""
    size = (gradient.shape[2] // grid[0], gradient.shape[3] // grid[1])
    magnitude = gradient.abs().sum(dim=1, keepdim=True)  # (B, 1, H, W)
    return torch.nn.functional.avg_pool2d(magnitude, size).squeeze(1)
