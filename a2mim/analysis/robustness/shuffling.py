"""Images whose patches change places: content stays, structure goes.

Axes: B images, C channels, (H, W) pixels, n patches along a side.
"""

import numpy as np
import torch
from torch import Tensor


def shuffle_patches(pixels: Tensor, grid: int, rng: np.random.Generator) -> Tensor:
    """Permute the ``grid`` × ``grid`` patches of each image by a permutation of its own.

    Args:
        pixels: (B, C, H, W).
        grid: Patches along a side; 1 changes nothing.
        rng: Of the permutations.

    Raises:
        ValueError: If ``grid`` does not divide the image.
    """
    check_grid(grid, pixels)
    batch, channels, height, width = pixels.shape
    h, w = height // grid, width // grid
    patches = pixels.view(batch, channels, grid, h, grid, w).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(batch, grid * grid, channels, h, w)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(grid * grid), (batch, 1)), axis=1))
    patches = patches[torch.arange(batch).unsqueeze(1), order]
    patches = patches.view(batch, grid, grid, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(pixels.shape)


def check_grid(grid: int, pixels: Tensor) -> None:
    """Refuse a grid that does not divide the images (B, C, H, W).

    Raises:
        ValueError: If it does not.
    """
    height, width = pixels.shape[-2:]
    if grid < 1 or height % grid or width % grid:
        raise ValueError(f'a grid of {grid}×{grid} patches does not divide {height}×{width} pixels')
