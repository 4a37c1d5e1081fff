"""Pairs of image patches, and the contexts in which they meet.

Axes: n players (cells of a g×g grid, row by row), P pairs, R rows (one pair in one context).

Reference:
    Deng et al., Discovering and explaining the representation bottleneck of DNNs, ICLR 2022
    (https://arxiv.org/abs/2111.06236), section 3 and its published settings.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

RADIUS = 2  # cells between the two of a pair, at most, along either axis


def orders_of(ratios: Sequence[float], grid: int) -> tuple[int, ...]:
    """Context sizes ``int((n - 2) · ratio)`` of a grid×grid image.

    Raises:
        ValueError: If the grid has no context, a ratio is outside [0, 1], or two ratios give the
            same order.
    """
    if grid < 2:
        raise ValueError(f'grid={grid} must be at least 2: a pair needs players beside it')
    if not ratios:
        raise ValueError('no ratios: give at least one in [0, 1]')
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio={ratio} must lie in [0, 1]: it is a share of the players')
    rest = grid * grid - 2
    orders = tuple(int(rest * ratio) for ratio in ratios)
    for order in orders:
        if orders.count(order) > 1:
            same = [ratio for ratio, other in zip(ratios, orders, strict=True) if other == order]
            raise ValueError(
                f'ratios {same} all mean contexts of {order} of the {rest} other patches of a '
                f'{grid}×{grid} grid; leave all but one out, or take a larger --grid'
            )
    return orders


def num_neighbour_pairs(grid: int) -> int:
    """Distinct unordered pairs of cells that lie at most ``RADIUS`` apart along both axes."""
    near = sum(max(grid - step, 0) * (1 if step == 0 else 2) for step in range(RADIUS + 1))
    # near² counts ordered pairs, each cell with itself among them.
    return (near * near - grid * grid) // 2


def neighbour_pairs(grid: int, number: int, seed: int) -> np.ndarray:
    """Different pairs of neighbours, int64 (P, 2), as the published settings draw them.

    The first cell is uniform, the second a uniform offset of up to ``RADIUS`` cells away, moved
    back onto the grid where it lies outside: cells at the border are chosen more often.

    Raises:
        ValueError: If there are fewer than ``number`` pairs.
    """
    there_are = num_neighbour_pairs(grid)
    if not 1 <= number <= there_are:
        raise ValueError(
            f'pairs={number}: a {grid}×{grid} grid has {there_are} pairs of patches at most '
            f'{RADIUS} apart; ask for 1 to {there_are}'
        )
    rng = np.random.default_rng(seed)
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    while len(pairs) < number:
        first = rng.integers(grid, size=2)
        second = np.clip(first + rng.integers(-RADIUS, RADIUS + 1, size=2), 0, grid - 1)
        pair = tuple(int(cell[0] * grid + cell[1]) for cell in (first, second))
        if pair[0] != pair[1]:
            pairs.setdefault(frozenset(pair), pair)
    return np.array(list(pairs.values()))


def sample_contexts(pairs: Tensor, order: int, players: int, seed: int) -> Tensor:
    """For every row a uniform subset of ``order`` players without the pair, bool (R, n).

    All rows are drawn at once, so that the result does not depend on the size of a batch.

    Args:
        pairs: (R, 2), the players that are left out.
        order: Size of a context, 0 to n - 2.
        players: n.
        seed: The same gives the same contexts on the same kind of device.
    """
    generator = torch.Generator(pairs.device).manual_seed(seed)
    # The ``order`` smallest of independent uniform numbers are a uniform subset.
    shape = (len(pairs), players)
    scores = torch.rand(shape, generator=generator, device=pairs.device, dtype=torch.float64)
    scores.scatter_(1, pairs, 2.0)
    chosen = scores.argsort(dim=1)[:, :order]
    return torch.zeros(shape, dtype=torch.bool, device=pairs.device).scatter_(1, chosen, True)


def four_presences(contexts: Tensor, pairs: Tensor) -> Tensor:
    """Who is present in S∪{i,j}, S∪{i}, S∪{j} and S, bool (R, 4, n)."""
    present = contexts[:, None].repeat(1, 4, 1)
    rows = torch.arange(len(pairs), device=pairs.device)
    first, second = pairs.unbind(1)
    present[rows, 0, first] = present[rows, 1, first] = True
    present[rows, 0, second] = present[rows, 2, second] = True
    return present
