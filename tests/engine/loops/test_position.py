"""A loader begins where it is told, or says that it cannot."""

import pytest
from torch.utils.data import DataLoader, RandomSampler

from a2mim.datasets import EpochSampler, InfiniteEpochSampler, RepeatedEpochSampler
from a2mim.engine.loops import batches_after, start_after


class Keys:
    """A data set whose samples are their keys."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[int, int, int]:
        return key


def loader(sampler: type, workers: int = 0, **options: object) -> DataLoader:
    return DataLoader(
        Keys(),
        batch_size=4,
        sampler=sampler(Keys(), seed=0),
        num_workers=workers,
        collate_fn=list,
        **options,
    )


@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('kind', [EpochSampler, RepeatedEpochSampler])
def test_an_epoch_begun_later_is_the_rest_of_the_whole_one(kind, drop_last):
    whole = [*loader(kind, drop_last=drop_last)]
    assert len(whole) == (2 if drop_last else 3)
    for done in range(len(whole) + 1):
        later = loader(kind, drop_last=drop_last)
        start_after(later, done)
        assert [*later] == whole[done:]


def test_the_next_epoch_of_a_loader_with_persistent_workers_is_whole():
    kept = loader(EpochSampler, 1, persistent_workers=True)
    start_after(kept, 2)
    assert len([*kept]) == 1
    kept.sampler.set_epoch(1)
    start_after(kept, 0)
    again = loader(EpochSampler)
    again.sampler.set_epoch(1)
    assert [*kept] == [*again]


@pytest.mark.parametrize('kind', [EpochSampler, InfiniteEpochSampler])
def test_batches_without_end_begin_after_any_number_of_them(kind):
    endless = batches_after(loader(kind), 0)
    first = [next(endless) for _ in range(9)]
    for done in range(8):
        assert next(batches_after(loader(kind), done)) == first[done]


def test_a_sampler_that_ends_is_asked_for_one_epoch_after_another():
    endless = batches_after(loader(EpochSampler), 0)
    epochs = [{key.epoch for key in next(endless)} for _ in range(6)]
    assert epochs == [{0}, {0}, {0}, {1}, {1}, {1}]


def test_a_sampler_that_begins_only_at_its_beginning_is_named():
    other = DataLoader(Keys(), batch_size=4, sampler=RandomSampler(Keys()))
    start_after(other, 0)
    with pytest.raises(ValueError, match=r'after 3 batches .* RandomSampler .* EpochSampler'):
        start_after(other, 3)
