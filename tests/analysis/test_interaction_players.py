from itertools import combinations

import numpy as np
import pytest
import torch

from a2mim.analysis.interactions import (
    PUBLISHED_RATIOS,
    InteractionSettings,
    four_presences,
    neighbour_pairs,
    num_neighbour_pairs,
    orders_of,
    sample_contexts,
)


def near_pairs(grid: int) -> set[frozenset[int]]:
    return {
        frozenset((i, j))
        for i, j in combinations(range(grid * grid), 2)
        if max(abs(i // grid - j // grid), abs(i % grid - j % grid)) <= 2
    }


def test_orders_are_the_published_ones():
    published = (0, 9, 19, 38, 58, 77, 97, 116, 135, 155, 174, 184, 194)
    assert orders_of(PUBLISHED_RATIOS, 14) == published


def test_published_cost():
    # 50 pairs, four images, 11 orders of 50 contexts, two whose context exists once.
    assert InteractionSettings().passes_per_image == 4 * 50 * (11 * 50 + 2)


@pytest.mark.parametrize('grid', [2, 3, 5])
def test_all_pairs_of_neighbours_can_be_drawn(grid):
    near = near_pairs(grid)
    drawn = neighbour_pairs(grid, len(near), 0).tolist()
    assert num_neighbour_pairs(grid) == len(near)
    assert len(drawn) == len(near)
    assert {frozenset(pair) for pair in drawn} == near


def test_first_pairs_are_as_likely_as_clamping_makes_them():
    # By enumeration of 9 cells and 25 offsets; a pair that is one cell is drawn again.
    weight = {}
    for cell in range(9):
        for down in range(-2, 3):
            for right in range(-2, 3):
                row, column = np.clip([cell // 3 + down, cell % 3 + right], 0, 2)
                pair = frozenset((cell, int(row * 3 + column)))
                if len(pair) == 2:
                    weight[pair] = weight.get(pair, 0) + 1
    draws = 4000
    first = [frozenset(neighbour_pairs(3, 1, seed)[0].tolist()) for seed in range(draws)]
    total = sum(weight.values())
    statistic = sum(
        (first.count(pair) - draws * w / total) ** 2 / (draws * w / total)
        for pair, w in weight.items()
    )
    assert statistic < 66  # chi-square of 35 degrees of freedom, 99.9 %


def test_contexts_have_their_size_and_leave_the_pair_out():
    pairs = torch.tensor([[0, 1], [4, 8], [8, 7]]).repeat(50, 1)
    for order in range(8):
        contexts = sample_contexts(pairs, order, 9, seed=1)
        assert (contexts.sum(dim=1) == order).all()
        assert not contexts.gather(1, pairs).any()


def test_contexts_are_uniform():
    pairs = torch.tensor([[1, 4]]).repeat(20000, 1)
    contexts = sample_contexts(pairs, 3, 9, seed=3)
    codes = (contexts.long() << torch.arange(9)).sum(dim=1)
    _, counts = codes.unique(return_counts=True)
    expected = 20000 / 35  # C(7, 3) subsets
    assert len(counts) == 35
    assert ((counts - expected) ** 2 / expected).sum() < 65  # 34 degrees of freedom, 99.9 %


def test_four_presences_of_a_pair():
    context = torch.tensor([[False, False, True, False]])
    present = four_presences(context, torch.tensor([[0, 3]]))[0].int().tolist()
    assert present == [[1, 0, 1, 1], [1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(ratios=(0.5, 1.2)), r'ratio=1.2 must lie in \[0, 1\]'),
        (dict(ratios=()), 'no ratios'),
        (dict(ratios=(0.5, 0.501)), r'all mean contexts of 97 of the 194'),
        (dict(grid=1), 'grid=1 must be at least 2'),
        (dict(grid=2, ratios=(0.0,), pairs=7), 'has 6 pairs of patches'),
        (dict(pairs=0), 'pairs=0'),
        (dict(contexts=0), 'contexts=0'),
        (dict(batch_size=3), 'batch_size=3'),
        (dict(output='softmax'), "output='softmax' is none of modified, normal, yi, feature"),
        (dict(target='gt'), "target='gt' is none of"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        InteractionSettings(**change)
