"""Closed formulas for inputs, masks and weights, so that pinned numbers need no stored tensors.

Whoever produced the pinned numbers used the same formulas; both sides agree to the last bit.
The hash is a 32-bit integer finaliser over CRC-32 of ``'{seed}/{name}'``; ``data/README.md`` writes
the formulas out. Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

import math
import zlib

import numpy as np
import torch
from torch import Tensor

LAYER_SCALES = ('gamma', 'gamma_1', 'gamma_2')


def u(name: str, n: int, seed: int) -> np.ndarray:
    """``n`` float64 numbers in [-1, 1) that depend on nothing but ``name`` and ``seed``."""
    start = np.uint32(zlib.crc32(f'{seed}/{name}'.encode()))
    # uint32 arrays wrap around silently, which is the arithmetic modulo 2**32 that is wanted.
    bits = np.arange(n, dtype=np.uint32) * np.uint32(2654435761) + start
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    return bits / 2.0**31 - 1.0


def image(name: str, shape: tuple[int, int, int, int], seed: int) -> Tensor:
    """A float32 batch (B, C, H, W): a plane wave per image and channel, plus noise."""
    b, c, i, j = np.ogrid[tuple(slice(size) for size in shape)]
    rows = np.sin(2 * math.pi * (1 + c) * i / shape[2] + b + 0.1 * seed)
    columns = np.cos(2 * math.pi * (1 + b % 3) * j / shape[3] + 0.5 * c)
    noise = u(name, math.prod(shape), seed).reshape(shape)
    return torch.from_numpy((rows * columns + 0.5 * noise).astype(np.float32))


def block_mask(name: str, shape: tuple[int, int, int], ratio: float, seed: int) -> Tensor:
    """A uint8 mask (B, h, w), 1 at the ``ceil(ratio * h * w)`` smallest numbers of every image."""
    num_blocks = shape[1] * shape[2]
    num_hidden = math.ceil(ratio * num_blocks - 1e-9)
    mask = np.zeros((shape[0], num_blocks), dtype=np.uint8)
    for b, row in enumerate(mask):
        row[np.argsort(u(f'{name}/{b}', num_blocks, seed), kind='stable')[:num_hidden]] = 1
    return torch.from_numpy(mask.reshape(shape))


def fill(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32 weight of the published state-dict ``key`` (backbone keys start with ``backbone.``).

    ``num_batches_tracked`` and ``relative_position_index`` keep the values they are built with:
    they are no weights, and asking for them is an error.
    """
    size = math.prod(shape)
    v = u(key, size, seed).reshape(shape)
    return _scale(key.rsplit('.', 1)[-1], v).astype(np.float32)


def _scale(leaf: str, v: np.ndarray) -> np.ndarray:
    """Scale uniform numbers to the range for a weight named ``leaf``."""
    if leaf in ('num_batches_tracked', 'relative_position_index'):
        raise ValueError(f'{leaf} is left as constructed; do not fill it')
    offsets = {'running_var': (1.0, 0.25), 'mask_gamma': (0.3, 0.2)}
    offsets.update(dict.fromkeys(LAYER_SCALES, (0.5, 0.25)))
    factors = {
        'running_mean': 0.1,
        'mask_token': 0.5,
        'cls_token': 0.2,
        'pos_embed': 0.2,
        'relative_position_bias_table': 0.5,
    }
    if leaf in offsets:
        offset, factor = offsets[leaf]
        return offset + factor * v
    if leaf in factors:
        return factors[leaf] * v
    if leaf == 'weight' and v.ndim == 1:
        return 1 + 0.1 * v
    if v.ndim >= 2:
        return v * math.sqrt(3 / (v.size / v.shape[0]))
    return 0.1 * v


def sample_index(n: int, k: int) -> np.ndarray:
    """``min(k, n)`` flat positions, spread over 0 … n - 1, at which large arrays are pinned."""
    k = min(k, n)
    stride = max(n // k, 1)
    j = np.arange(k)
    return j * (n // k) + (7919 * j) % stride
