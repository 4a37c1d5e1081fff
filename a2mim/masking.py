"""Masks on grids: which blocks are masked, and how a block mask reaches pixels and features.

Axes: B batch, C channels, (H, W) pixels or features, (h, w) mask blocks.
A mask is 1 where a block is masked and 0 where it is visible. The data set makes it, at block
resolution; its users upsample it.
"""

import math

import numpy as np
import torch
from torch import Tensor


def block_grid(
    image_size: int | tuple[int, int], block_size: int | tuple[int, int]
) -> tuple[int, int]:
    """Number of blocks (h, w) that tile an image of ``image_size`` pixels.

    Args:
        image_size: Side of a square image, or (H, W), in pixels.
        block_size: Side of a square block, or (height, width), in pixels.

    Raises:
        ValueError: If the blocks do not tile the image.
    """
    height, width = _pair(image_size)
    block_height, block_width = _pair(block_size)
    for size, block in ((height, block_height), (width, block_width)):
        if block < 1 or size % block:
            divisors = [d for d in range(1, size + 1) if size % d == 0]
            raise ValueError(
                f'block_size={block_size} does not divide image_size={image_size}; '
                f'block sizes that divide {size} are {divisors}'
            )
    return height // block_height, width // block_width


def random_patch_mask(
    grid: tuple[int, int], ratio: float, generator: np.random.Generator
) -> np.ndarray:
    """Mask exactly ``ceil(ratio * h * w)`` blocks, each subset with equal probability.

    Args:
        grid: Blocks (h, w).
        ratio: Share of masked blocks, in [0, 1].
        generator: Source of randomness; the same state gives the same mask.

    Returns:
        uint8 array (h, w), 1 where masked.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1].

    Reference:
        Xie et al., SimMIM, CVPR 2022 (https://arxiv.org/abs/2111.09886), section 3.2.
    """
    num_masked = num_masked_patches(grid, ratio)
    mask = np.zeros(grid[0] * grid[1], dtype=np.uint8)
    mask[generator.permutation(mask.size)[:num_masked]] = 1
    return mask.reshape(grid)


def num_masked_patches(grid: tuple[int, int], ratio: float) -> int:
    """``ceil(ratio * h * w)``, the number of masked blocks."""
    if not 0 <= ratio <= 1:
        raise ValueError(f'mask ratio={ratio} must lie in [0, 1]; the paper masks 0.6')
    # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point.
    return math.ceil(round(ratio * grid[0] * grid[1], 9))


def upsample_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat every block of ``mask`` (B, h, w) until it covers ``size`` = (H, W).

    No channel axis is added. Where ``size`` equals the grid, the mask itself is returned.

    Raises:
        ValueError: If H is not a multiple of h, or W not a multiple of w.
    """
    h, w = mask.shape[-2:]
    rows, columns = size[0] // h, size[1] // w
    if (h * rows, w * columns) != tuple(size):
        raise ValueError(
            f'a mask grid of {h}×{w} blocks does not divide a grid of {size[0]}×{size[1]}; '
            'choose block_size as a multiple of the stride there'
        )
    if (rows, columns) == (1, 1):
        return mask
    # One expanded copy: repeat_interleave would make two.
    blocks = mask[..., :, None, :, None].expand(*mask.shape[:-2], h, rows, w, columns)
    return blocks.reshape(*mask.shape[:-2], *size)


def fill_masked(image: Tensor, mask: Tensor) -> Tensor:
    """Fill the masked blocks of every image with its own mean colour.

    The mean is taken per image and per channel over all pixels of the already normalised image,
    masked ones included, as in the reference implementation.

    Args:
        image: (B, C, H, W), normalised pixels (zero mean, unit variance).
        mask: (B, h, w), 1 where masked; H and W are multiples of h and w.

    Returns:
        (B, C, H, W); the input is not changed.

    Raises:
        ValueError: If the mask grid does not divide the image.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943), section 4.1.
    """
    height, width = image.shape[-2:]
    masked = upsample_mask(mask, (height, width)).unsqueeze(1).to(image.dtype)
    mean = image.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(image, mean, masked)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


# The names of earlier versions.
random_block_mask = random_patch_mask
num_hidden_blocks = num_masked_patches
fill_hidden = fill_masked
