"""Repeated augmentation: the published arithmetic, and keys that make each copy another sample."""

import pytest
from timm.data.distributed_sampler import RepeatAugSampler

from a2mim.datasets import RepeatedEpochSampler, SampleKey
from a2mim.datasets.samplers import EpochSampler
from a2mim.registry import DATA_SAMPLERS

IMAGENET = 1_281_167


@pytest.fixture
def build(monkeypatch):
    """A function from a size and a rank of some to a sampler."""

    def build(size: int, rank: int = 0, ranks: int = 1, **options) -> RepeatedEpochSampler:
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, ranks))
        return RepeatedEpochSampler(range(size), seed=0, **options)

    return build


def test_imagenet_on_8_ranks_makes_the_published_626_batches(build):
    sampler = build(IMAGENET, ranks=8)
    assert len(sampler) == 160_128
    assert divmod(len(sampler), 256) == (625, 128)


@pytest.mark.parametrize('ranks', [1, 3, 8])
@pytest.mark.parametrize('size', [100, 256, 511, 1000])
def test_order_and_length_are_timms(build, size, ranks):
    for rank in range(ranks):
        ours = build(size, rank, ranks, shuffle=False)
        timms = RepeatAugSampler(range(size), ranks, rank, shuffle=False)
        keys = list(ours)
        assert [key.index for key in keys] == list(timms)
        assert len(keys) == len(ours) == len(timms)


def test_copies_of_an_image_are_in_one_step_on_different_ranks(build):
    ranks = [list(build(512, rank, 3)) for rank in range(3)]
    for step in zip(*ranks, strict=True):
        assert len({key.index for key in step}) == 1
        assert [key.repeat for key in step] == [0, 1, 2]


def test_an_epoch_shows_copies_of_a_third_of_the_images(build):
    keys = list(build(768))
    assert len(keys) == len(set(keys)) == 768
    assert len({key.index for key in keys}) == 256
    assert {key.repeat for key in keys} == {0, 1, 2}


def test_more_ranks_than_copies_still_see_different_samples(build):
    keys = [key for rank in range(16) for key in build(4, rank, 16)]
    assert len(keys) == len(set(keys)) == 16


def test_the_order_is_that_of_the_plain_sampler_in_every_epoch(build):
    repeated, plain = build(600), EpochSampler(range(600), seed=0)
    for epoch in (0, 5):
        repeated.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert list(repeated)[::3] == list(plain)[: len(list(repeated)[::3])]


def test_the_runner_builds_it_by_name():
    config = dict(type='RepeatedEpochSampler', num_repeats=2, dataset=range(300), seed=0)
    first, second = list(DATA_SAMPLERS.build(config))[:2]
    assert second == SampleKey(first.index, epoch=0, repeat=1)


def test_no_repeats_are_refused(build):
    with pytest.raises(ValueError, match='num_repeats=0'):
        build(10, num_repeats=0)


def test_an_epoch_may_begin_at_any_sample(build):
    sampler = build(600, rank=1, ranks=4)
    whole = list(sampler)
    sampler.start_at(50)
    assert list(sampler) == whole[50:]
