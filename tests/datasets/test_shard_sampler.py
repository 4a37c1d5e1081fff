"""The order that reads few shards at a time: complete, random, and different in each process."""

from itertools import pairwise

import numpy as np
import pytest

from a2mim.datasets import SampleKey, ShardSampler


class Shards:
    """Forty images in four shards of unequal size."""

    starts = (0, 5, 15, 27)

    def __len__(self) -> int:
        return 40

    def of(self, index: int) -> int:
        return int(np.searchsorted(self.starts, index, side='right')) - 1


@pytest.fixture
def ranks(monkeypatch):
    """A function from a number of processes to the keys of each."""

    def ranks(number: int, epoch: int = 0, **options: object) -> list[list[SampleKey]]:
        keys = []
        for rank in range(number):
            monkeypatch.setattr(
                'mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, number)
            )
            sampler = ShardSampler(Shards(), **{'window': 10, 'seed': 0, **options})
            sampler.set_epoch(epoch)
            keys.append(list(sampler))
        return keys

    return ranks


def indices(keys: list[SampleKey]) -> list[int]:
    return [key.index for key in keys]


@pytest.mark.parametrize('number', [1, 2, 3, 7])
def test_together_the_processes_see_every_image_once(ranks, number):
    keys = [key for part in ranks(number) for key in part]
    assert sorted(indices([key for key in keys if key.repeat == 0])) == list(range(40))


def test_the_order_is_a_function_of_seed_and_epoch(ranks):
    (first,), (again,), (seed,), (epoch,) = ranks(1), ranks(1), ranks(1, seed=1), ranks(1, epoch=1)
    assert first == again
    assert indices(first) != indices(seed)
    assert indices(first) != indices(epoch)


def test_a_window_comes_from_neighbouring_shards_only(ranks):
    (keys,) = ranks(1, window=5)
    windows = np.array(indices(keys)).reshape(-1, 5)
    assert all(len({Shards().of(index) for index in window}) <= 2 for window in windows)
    shards = [Shards().of(index) for index in indices(ranks(1, window=2)[0])]
    turns = sum(one != other for one, other in pairwise(shards))
    assert turns < 10  # a full shuffle would change shards about thirty times


def test_images_are_mixed_within_a_window(ranks):
    (keys,) = ranks(1)
    steps = np.diff(indices(keys))
    assert (steps == 1).sum() < 15


def test_processes_read_different_shards_but_for_the_one_at_the_border(ranks):
    for number in (2, 3):
        parts = [
            {Shards().of(key.index) for key in part if key.repeat == 0} for part in ranks(number)
        ]
        shared = [len(one & other) for one, other in pairwise(parts)]
        assert max(shared) <= 1
        assert all(len(part) < 4 for part in parts)


def test_a_resumed_epoch_goes_on_in_the_same_order():
    sampler = ShardSampler(Shards(), window=10, seed=0)
    whole = list(sampler)
    sampler.start_at(17)
    assert list(sampler) == whole[17:]


def test_a_window_that_mixes_nothing_is_refused():
    with pytest.raises(ValueError, match=r'window=1 .*; give'):
        ShardSampler(Shards(), window=1)


def test_images_without_shards_are_refused():
    with pytest.raises(TypeError, match='list has no shards; use EpochSampler'):
        ShardSampler([1, 2, 3], window=2)
