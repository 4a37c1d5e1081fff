"""A loop goes on where the counters of a checkpoint stand, if they make sense."""

from types import SimpleNamespace

import pytest

from a2mim.engine.loops import EpochBasedTrainLoop


class Calls(SimpleNamespace):
    """Stands for the runner, and writes down what is called."""

    def call_hook(self, name: str, **kwargs: object) -> None:
        self.names.append(name)


def loop(epoch: int, iteration: int, val_interval: int = 1) -> EpochBasedTrainLoop:
    """Three epochs of four batches, with a model that only counts."""
    built = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    names = []
    model = SimpleNamespace(train=lambda: None, train_step=lambda batch, optim_wrapper: None)
    validate = SimpleNamespace(run=lambda: names.append('validate'))
    built._runner = Calls(names=names, model=model, optim_wrapper=None, val_loop=validate, hooks=[])
    built.dataloader = FourBatches()
    built._epoch, built._iter, built._max_epochs = epoch, iteration, 3
    built.val_begin, built.val_interval, built.stop_training = 1, val_interval, False
    built.dynamic_milestones, built.dynamic_intervals = [0], [val_interval]
    return built


class FourBatches:
    """A loader that begins where it is told."""

    def __init__(self) -> None:
        self.batch_sampler = None

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> object:
        return iter(range(4))


@pytest.mark.parametrize('epoch, iteration', [(1, 3), (1, 9), (0, 5), (3, 8)])
def test_counters_that_contradict_the_length_of_an_epoch_are_refused(epoch, iteration):
    message = f'{iteration} iterations in {epoch} finished epochs, but an epoch of this run has 4'
    with pytest.raises(ValueError, match=message):
        loop(epoch, iteration).run()


def test_an_epoch_whose_validation_may_be_missing_is_validated_first():
    resumed = loop(2, 8)
    resumed.run()
    names = resumed.runner.names
    assert names[:3] == ['before_train', 'validate', 'before_train_epoch']
    assert names.count('validate') == 2


def test_a_new_run_trains_before_it_validates():
    new = loop(0, 0)
    new.run()
    assert new.runner.names[:2] == ['before_train', 'before_train_epoch']
    assert new.runner.names.count('validate') == 3
    assert new.runner.names.count('after_train_iter') == 12


def test_an_epoch_without_validation_is_not_validated_when_resumed():
    resumed = loop(1, 4, val_interval=2)
    resumed.run()
    assert resumed.runner.names[1] == 'before_train_epoch'


def test_a_finished_run_is_validated_and_ends():
    finished = loop(3, 12)
    finished.run()
    assert finished.runner.names == ['before_train', 'validate', 'after_train']
