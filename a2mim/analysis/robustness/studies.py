"""The levels of each study: a change of the images, and where it stands on the axis."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.robustness.corruptions import SEVERITIES, check_corruption, corrupt
from a2mim.analysis.robustness.measure import Level, input_gradient
from a2mim.analysis.robustness.occlusion import ORDERS, drop_patches, patch_mask, patch_saliency
from a2mim.analysis.robustness.shuffling import check_grid, shuffle_patches
from a2mim.analysis.subject import Subject


def occlusion_levels(
    ratios: Sequence[float], grid: int, orders: Sequence[str] = ORDERS
) -> list[Level]:
    """Shares of dropped patches on a ``grid`` × ``grid``, in each order.

    Raises:
        ValueError: If a ratio is outside [0, 1].
    """
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio {ratio} must lie in [0, 1]')

    def level(order: str, ratio: float) -> Level:
        def change(subject: Subject, pixels: Tensor, seed: int) -> Tensor:
            check_grid(grid, pixels)
            if order == 'random':
                saliency = torch.zeros(len(pixels), grid, grid)
            else:
                saliency = patch_saliency(input_gradient(subject, pixels), (grid, grid)).cpu()
            mask = patch_mask(saliency, ratio, order, np.random.default_rng(seed))
            return drop_patches(pixels, mask)

        return Level(order, ratio, change)

    return [level(order, ratio) for order in orders for ratio in ratios]


def shuffle_levels(grids: Sequence[int]) -> list[Level]:
    """Patches along a side, 1 for the image as it is."""

    def level(grid: int) -> Level:
        def change(subject: Subject, pixels: Tensor, seed: int) -> Tensor:
            return shuffle_patches(pixels, grid, np.random.default_rng(seed))

        return Level('shuffled', grid, change)

    return [level(grid) for grid in grids]


def corruption_levels(names: Sequence[str]) -> list[Level]:
    """Severity 0, the image as it is, to 5 of each corruption.

    Raises:
        ValueError: If one is unknown.
    """

    def level(name: str, severity: int) -> Level:
        def change(subject: Subject, pixels: Tensor, seed: int) -> Tensor:
            return corrupt(pixels, name, severity, seed) if severity else pixels

        return Level(name, severity, change)

    for name in names:
        check_corruption(name)
    return [level(name, severity) for name in names for severity in (0, *SEVERITIES)]
