"""Keys, and the samplers that yield them."""

import itertools
import pickle

import numpy as np
import pytest

from a2mim.datasets import EpochSampler, InfiniteEpochSampler, SampleKey
from a2mim.registry import DATA_SAMPLERS


def ranks(size: int, world_size: int, **options: object) -> list[EpochSampler]:
    samplers = []
    for rank in range(world_size):
        sampler = EpochSampler(range(size), seed=0, **options)
        sampler.rank, sampler.world_size = rank, world_size
        sampler.num_samples = -(-size // world_size)
        sampler.total_size = sampler.num_samples * world_size
        samplers.append(sampler)
    return samplers


def test_an_epoch_shows_every_image_once():
    keys = list(EpochSampler(range(10), seed=0))
    assert sorted(key.index for key in keys) == list(range(10))
    assert {(key.epoch, key.repeat) for key in keys} == {(0, 0)}


def test_without_shuffling_the_order_is_that_of_the_source():
    assert [key.index for key in EpochSampler(range(5), shuffle=False, seed=0)] == [0, 1, 2, 3, 4]


def test_the_order_depends_on_the_epoch_and_on_the_seed():
    first, other_seed = EpochSampler(range(50), seed=1), EpochSampler(range(50), seed=0)
    zero = [key.index for key in first]
    first.set_epoch(1)
    one = [key.index for key in first]
    # seed 1 in epoch 0 is not seed 0 in epoch 1: the two do not merely add up
    other_seed.set_epoch(1)
    assert zero != one
    assert [key.index for key in other_seed] not in (zero, one)


def test_keys_carry_the_epoch():
    sampler = EpochSampler(range(3), seed=0)
    sampler.set_epoch(7)
    assert {key.epoch for key in sampler} == {7}


def test_two_ranks_see_in_each_step_the_batch_of_one_process():
    alone = list(EpochSampler(range(12), seed=0))
    left, right = (list(sampler) for sampler in ranks(12, 2))
    for step in range(3):
        both = left[2 * step : 2 * step + 2] + right[2 * step : 2 * step + 2]
        assert sorted(both) == sorted(alone[4 * step : 4 * step + 4])


def test_images_that_fill_up_the_last_step_are_further_copies():
    keys = [key for sampler in ranks(5, 2) for key in sampler]
    assert len(keys) == 6
    assert len(set(keys)) == 6
    assert [key.repeat for key in keys].count(1) == 1


def test_the_infinite_sampler_counts_passes_as_epochs():
    keys = list(itertools.islice(InfiniteEpochSampler(range(4), seed=0), 10))
    assert [key.epoch for key in keys] == [0] * 4 + [1] * 4 + [2] * 2
    again = EpochSampler(range(4), seed=0)
    again.set_epoch(1)
    assert keys[4:8] == list(again)


@pytest.mark.parametrize('name', ['EpochSampler', 'InfiniteEpochSampler'])
def test_samplers_are_found_by_name(name):
    assert len(DATA_SAMPLERS.build({'type': name, 'dataset': range(7), 'seed': 0})) == 7


def test_an_index_is_the_first_copy_in_epoch_0():
    assert SampleKey.of(3) == SampleKey(3, epoch=0, repeat=0)
    assert SampleKey.of(np.int64(3)) == SampleKey(3)
    assert SampleKey.of(SampleKey(3, 2, 1)) == SampleKey(3, 2, 1)


def test_a_key_survives_the_queue_to_a_worker():
    assert pickle.loads(pickle.dumps(SampleKey(1, 2, 3))) == SampleKey(1, 2, 3)


@pytest.mark.parametrize('seed', [0, 7, 2**32 - 1, 2**32, 2**70, np.int64(3)])
@pytest.mark.parametrize('key', [SampleKey(0), SampleKey(3, 299, 2), SampleKey(14 * 10**6, 2**33)])
def test_the_generator_of_a_key_is_that_of_numpy(seed, key):
    expected = np.random.default_rng((seed, key.epoch, key.index, key.repeat))
    assert key.generator(seed).bit_generator.state == expected.bit_generator.state


@pytest.mark.parametrize(('seed', 'error'), [(-1, ValueError), (1.5, TypeError)])
def test_a_seed_that_numpy_refuses_is_refused(seed, error):
    with pytest.raises(error):
        SampleKey(0).generator(seed)


def test_every_part_of_a_key_changes_the_draws():
    keys = [SampleKey(1, 2, 3), SampleKey(0, 2, 3), SampleKey(1, 0, 3), SampleKey(1, 2, 0)]
    draws = {key.generator(0).random() for key in keys} | {keys[0].generator(1).random()}
    assert len(draws) == 5
    assert keys[0].generator(0).random() in draws


@pytest.mark.parametrize('world_size', [1, 3])
@pytest.mark.parametrize('shuffle', [True, False])
def test_an_epoch_may_begin_at_any_sample_of_each_rank(world_size, shuffle):
    for sampler in ranks(10, world_size, shuffle=shuffle):
        whole = list(sampler)
        for start in range(len(whole) + 2):
            sampler.start_at(start)
            assert list(sampler) == whole[start:]


def test_where_an_epoch_begins_does_not_change_its_length():
    sampler = EpochSampler(range(10), seed=0)
    sampler.start_at(7)
    assert len(sampler) == 10


def test_two_ranks_go_on_where_one_process_stopped():
    alone = EpochSampler(range(12), seed=0)
    alone.start_at(8)
    rest = list(alone)
    both = []
    for sampler in ranks(12, 2):
        sampler.start_at(4)
        both += list(sampler)
    assert sorted(both) == sorted(rest)


def test_an_endless_order_begins_at_any_sample_of_any_epoch():
    whole = list(itertools.islice(InfiniteEpochSampler(range(4), seed=0), 20))
    for start in range(12):
        sampler = InfiniteEpochSampler(range(4), seed=0)
        sampler.start_at(start)
        assert list(itertools.islice(sampler, 8)) == whole[start : start + 8]
