"""Balanced classes: equal numbers of samples, each image before one is repeated, exact resuming."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from a2mim.datasets import ClassBalancedSampler
from a2mim.registry import DATA_SAMPLERS

LABELS = np.array([0] * 70 + [2] * 20 + [1] * 7 + [4] * 3)  # no image of class 3


class Images:
    """A data set of images that are known by their labels."""

    def __init__(self, labels) -> None:
        self.source = SimpleNamespace(labels=labels)

    def __len__(self) -> int:
        return len(self.source.labels)


@pytest.fixture
def build(monkeypatch):
    """A function from labels and a rank of some to a sampler."""

    def build(labels=LABELS, rank: int = 0, ranks: int = 1, **options) -> ClassBalancedSampler:
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, ranks))
        sampler = {'type': 'ClassBalancedSampler', 'dataset': Images(labels), 'seed': 0}
        return DATA_SAMPLERS.build(sampler | options)

    return build


@pytest.mark.parametrize('ranks', [1, 2, 3, 7])
def test_classes_have_equal_numbers_and_keys_are_distinct(build, ranks):
    keys = [key for rank in range(ranks) for key in build(rank=rank, ranks=ranks)]
    counts = Counter(LABELS[key.index] for key in keys)
    assert counts.keys() == {0, 1, 2, 4}
    assert max(counts.values()) - min(counts.values()) <= 1 + (len(keys) - 100)
    assert len(keys) == -(-100 // ranks) * ranks
    assert len(set(keys)) == len(keys)
    times = Counter(key.index for key in keys)
    assert {times[index] for index in np.flatnonzero(LABELS == 4)} <= {8, 9, 10}
    assert max(times[index] for index in np.flatnonzero(LABELS == 0)) <= 1 + (len(keys) - 100)


def test_two_ranks_share_the_order_of_one(build):
    alone = list(build())
    both = [list(build(rank=rank, ranks=2)) for rank in range(2)]
    assert [key for pair in zip(*both, strict=True) for key in pair] == alone


@pytest.mark.parametrize('ranks', [1, 3])
def test_an_epoch_resumes_at_any_sample_of_each_rank(build, ranks):
    for rank in range(ranks):
        whole = list(build(rank=rank, ranks=ranks))
        for start in (0, 1, 17, len(whole)):
            sampler = build(rank=rank, ranks=ranks)
            sampler.start_at(start)
            assert list(sampler) == whole[start:]
            assert len(sampler) == len(whole)


def test_the_order_is_a_function_of_seed_and_epoch(build):
    first, again, other = build(), build(), build(seed=1)
    assert list(first) == list(again) != list(other)
    again.set_epoch(1)
    assert [key.index for key in again] != [key.index for key in first]
    assert {key.epoch for key in again} == {1}


def test_an_image_of_several_classes_is_drawn_for_each(build):
    labels = np.array([[0, 1], [0, -1], [1, 0], [-1, -1], [2, -1]] * 3)
    counts = Counter(key.index % 5 for key in build(labels))
    assert counts[3] == 0
    assert counts[4] == 5  # a third of 15 draws, from three images
    assert sum(counts.values()) == 15


def test_more_classes_than_samples_are_drawn_in_turn(build):
    labels = np.array([[3 * index, 3 * index + 1, 3 * index + 2] for index in range(4)])
    assert len(list(build(labels))) == 4


def test_what_cannot_be_balanced_is_refused(build):
    with pytest.raises(TypeError, match='has no labels to balance; use EpochSampler'):
        ClassBalancedSampler(range(3))
    with pytest.raises(ValueError, match='shuffle=False'):
        build(shuffle=False)
