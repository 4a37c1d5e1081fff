"""Training by epochs or by iterations, resumed at any iteration, and the hook that installs it.

A checkpoint is written before what an interval asks for is validated: a run resumed from there
validates first, since the run that was stopped may not have come to it, and what follows from an
accuracy (the best checkpoint, an early stop) is not in the file. With ``train_cfg.val_begin=0`` a
new run validates before its first step.

A run that cannot proceed, because a data worker or another process is missing or because it is
stopped while it waits for data, saves the state after its last complete iteration and leaves.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import BaseLoop, Runner
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from a2mim.engine.checkpointing import CheckpointHook, find_saver
from a2mim.engine.mmengine_fixes import RuntimeInfoHook
from a2mim.engine.processes import absent_ranks, is_connection_lost
from a2mim.engine.sharding import is_sharded
from a2mim.engine.workers import PatientLoader, end_workers
from a2mim.errors import TRY_AGAIN, BadDataError, MissingError, StorageError
from a2mim.length import AUTO, pretraining_epochs
from a2mim.registry import HOOKS, LOOPS


class Startable(Protocol):
    """A sampler that begins an epoch anywhere."""

    endless: bool

    def start_at(self, place: int) -> None:
        """Begin the passes with sample (or batch) ``place``."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Order the samples as in ``epoch``."""
        ...


def batch_size(loader: DataLoader) -> int:
    """Images per batch, whether torch makes the batches or a batch sampler of the config."""
    return loader.batch_size or cast(BatchSampler, loader.batch_sampler).batch_size


def can_start(loader: DataLoader) -> bool:
    """Whether ``loader`` begins anywhere: its batch sampler or torch's on its sampler does.

    A batch sampler of a config counts batches in ``start_at``, a sampler counts samples.
    """
    batches = loader.batch_sampler
    by_sample = type(batches) is BatchSampler and hasattr(batches.sampler, 'start_at')
    return by_sample or hasattr(batches, 'start_at')


def start_after(loader: DataLoader, batches: int) -> None:
    """Let the next pass through ``loader`` begin after ``batches`` batches, without loading them.

    Raises:
        ValueError: If it cannot begin anywhere but at its beginning.
    """
    own = loader.batch_sampler
    if can_start(loader):
        if type(own) is BatchSampler:
            cast(Startable, own.sampler).start_at(batches * own.batch_size)
        else:
            cast(Startable, own).start_at(batches)
    elif batches:
        raise ValueError(
            f'the checkpoint was written after {batches} batches of an epoch, and '
            f'{type(own).__name__} with {type(getattr(own, "sampler", None)).__name__} cannot '
            'begin there: take EpochSampler in train_dataloader, or resume from the end of an epoch'
        )


def batches_after(loader: DataLoader, iterations: int) -> Iterator[dict]:
    """Endless batches, starting after ``iterations`` of them.

    mmengine types a batch as a sequence of samples; it is whatever ``collate_fn`` returns.
    """
    sampler = cast(Startable, cast(BatchSampler, loader.batch_sampler).sampler)
    epoch, done = (0, iterations) if sampler.endless else divmod(iterations, len(loader))
    while True:
        sampler.set_epoch(epoch)
        start_after(loader, done)
        yield from loader
        epoch, done = epoch + 1, 0


@runtime_checkable
class Finishes(Protocol):
    """A hook that holds something beyond a step: signals, or a file that is being written."""

    def finish(self, runner: Runner) -> None:
        """Complete it or give it back; called at any end of the training, an error included."""
        ...


class StopRequestedError(BaseException):
    """The run is asked to stop while it waits for data; not for decoders to catch."""


@contextmanager
def finishing(runner: Runner) -> Iterator[None]:
    """Save before a run leaves, and call ``finish`` of the hooks that have it at any end."""
    try:
        yield
    except StopRequestedError:
        saved = save_before_leaving(runner)
        runner.logger.info(f'stopped by a signal {saved} (exit code {TRY_AGAIN})')
        raise SystemExit(TRY_AGAIN) from None
    except MissingError as error:
        saved = save_before_leaving(runner)
        raise MissingError(f'{error}. The run ends {saved} (exit code {TRY_AGAIN})') from error
    except (StorageError, BadDataError) as error:
        if not runner.iter or not cast(SafeWaits, runner.train_loop).whole:
            raise
        reason, saved = str(error).rstrip(), save_before_leaving(runner)
        raise type(error)(f'{reason}. The run ends {saved}') from error
    finally:
        leaves = sys.exc_info()[0] is not None
        for hook in runner.hooks:
            if isinstance(hook, Finishes):
                hook.finish(runner)
        if leaves:
            end_workers()


def save_before_leaving(runner: Runner) -> str:
    """Save the state after the last complete iteration, without the other processes.

    Returns:
        When the run ends, what is saved and what to do, to end a sentence.
    """
    saver, path = find_saver(runner), None
    if saver is not None and runner.iter and is_whole(runner, saver):
        for hook in runner.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(runner, alone=True)
        saver.alone = True
        path = saver.save_now(runner, done=runner.iter)
    saved = 'nothing more is saved' if path is None else f'{path} is saved'
    return f'after iteration {runner.iter}: {saved}; --resume auto continues'


def is_whole(runner: Runner, saver: CheckpointHook) -> bool:
    """Whether this process can save by itself what a run resumes from.

    Not while gradients are accumulated, nor within an iteration whose update is done, nor between
    the schedules of an epoch and its count, nor if the model is sharded; and it is the first
    process that saves, or the first that is left.
    """
    guard = getattr(runner.optim_wrapper, 'guard', None)
    if guard is not None:
        guard.settle()
    loop = cast(EpochBasedTrainLoop | IterBasedTrainLoop, runner.train_loop)
    together = get_world_size() > 1 and is_sharded(runner.model.parameters())
    ahead = loop.ends_epoch and any(each.by_epoch for each in all_schedules(runner))
    saves = get_rank() == loop.first_rank
    return loop.whole and saves and not together and not ahead and saver.can_save(runner)


def all_schedules(runner: Runner) -> list[_ParamScheduler]:
    """The schedules of one optimiser, or of several by name."""
    found = runner.param_schedulers or []
    groups = found.values() if isinstance(found, dict) else [found]
    return [schedule for group in groups for schedule in cast(list[_ParamScheduler], group)]


class SafeWaits:
    """What both loops of training share: waits for data, and other processes that are missing.

    Attributes:
        waiting: Whether the loop waits for a batch: an error that ends the wait loses nothing.
        whole: Whether the state is that after ``runner.iter`` iterations.
        ends_epoch: Whether hooks finish an epoch that does not count as done yet.
        first_rank: The process that saves if the run has to leave.
    """

    runner: Runner
    waiting = False
    whole = True
    ends_epoch = False
    first_rank = 0

    def waited_for(self, batches: Iterable[dict]) -> Iterator[dict]:
        """``batches``, with ``waiting`` set until each of them is there.

        Raises:
            StopRequestedError: If the run is to stop instead.
            MissingError: If a data worker is missing.
        """
        self.waiting = True
        try:
            for batch in batches:
                self.waiting = False
                yield batch
                self.waiting = True
        finally:
            self.waiting = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """The block is one iteration.

        Raises:
            MissingError: If another process is missing; the state is whole if no update was made.
        """
        self.whole = False
        try:
            yield
        except RuntimeError as error:
            if not is_connection_lost(error):
                raise
            guard = getattr(self.runner.optim_wrapper, 'guard', None)
            self.whole = guard is not None and guard.abandon()
            raise self.lost_connection() from error
        self.whole = True

    def validate(self) -> None:
        """Validate; weights that stand in for those of the training go if the validation fails.

        Raises:
            MissingError: If a data worker or another process is missing.
            StorageError, BadDataError: If images are.
        """
        try:
            cast(BaseLoop, self.runner.val_loop).run()
        except (RuntimeError, StorageError, BadDataError) as error:
            lost = isinstance(error, RuntimeError) and is_connection_lost(error)
            if not lost and not isinstance(error, MissingError | StorageError | BadDataError):
                raise
            for hook in self.runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(self.runner)
            if lost:
                raise self.lost_connection() from error
            raise

    def lost_connection(self) -> MissingError:
        """The error that names the ranks which are missing; the first of the others is to save."""
        absent = absent_ranks()
        self.first_rank = min({*range(get_world_size())} - absent)
        names = ', '.join(map(str, sorted(absent))) or 'one of them'
        return MissingError(
            f'rank {get_rank()} has lost the connection to the others: rank {names} has stopped or '
            'left'
        )


@LOOPS.register_module()
class EpochBasedTrainLoop(SafeWaits, MMEngineEpochBasedTrainLoop):
    """mmengine's loop, which resumes at the batch after which a checkpoint was written.

    mmengine 0.10 begins the epoch anew, with the iteration counter where it was.

    Args:
        runner: Of the training.
        dataloader: Or its config.
        max_epochs: Length of the training; ``'auto'`` chooses it by the number of optimiser steps
            (``a2mim.length``) and states it in the config of the run.
        max_iters: Its length in iterations, in place of ``max_epochs``: the last epoch may end
            early.
        kwargs: Arguments of mmengine's loop.
    """

    _max_iters: int = sys.maxsize

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_epochs: int | str,
        *,
        max_iters: int | None = None,
        **kwargs: Any,
    ) -> None:
        automatic = max_epochs == AUTO
        super().__init__(runner, dataloader, 1 if automatic else max_epochs, **kwargs)  # pyright: ignore
        if automatic:
            self._choose_length(runner)
        if max_iters is not None:
            self.end_after(max_iters)

    def _choose_length(self, runner: Runner) -> None:
        per_epoch = len(self.dataloader)
        accumulation = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
        epochs, why = pretraining_epochs(max(1, per_epoch // accumulation))
        self._max_epochs, self._max_iters = epochs, epochs * per_epoch
        runner.cfg.train_cfg.max_epochs = epochs
        runner.dump_config()
        runner.logger.info(f'length: {epochs} epochs of {per_epoch} iterations: {why}')

    def end_after(self, iterations: int) -> None:
        """End the training after so many iterations.

        Raises:
            ValueError: If that is less than one.
        """
        if iterations < 1:
            raise ValueError(f'max_iters={iterations} must be at least 1')
        self._max_iters = iterations
        self._max_epochs = math.ceil(iterations / len(self.dataloader))

    def run(self) -> nn.Module:
        """Train to the end, from wherever the counters stand.

        Raises:
            ValueError: If the counters contradict each other.
        """
        done = self._batches_done()
        with finishing(self.runner):
            self.runner.call_hook('before_train')
            if not done:
                self._validate_if_due()
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                self._validate_if_due()
            self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train the rest of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._batches_done()
        start_after(self.dataloader, done)
        complete = self._iter >= self._max_iters  # resumed after its last step
        batches = () if complete else self.waited_for(self.dataloader)
        for index, batch in enumerate(batches, done):
            with self.step():
                self.run_iter(index, batch)  # pyright: ignore[reportArgumentType]
            if self._iter >= self._max_iters and index + 1 < len(self.dataloader):
                break
        self.ends_epoch = True
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.ends_epoch = False

    def _batches_done(self) -> int:
        """Number of batches of the current epoch already trained on."""
        length = len(self.dataloader)
        ended = self._iter == self._max_iters and self._epoch == self._max_epochs
        done = 0 if ended else self._iter - self._epoch * length
        if not 0 <= done <= length:
            raise ValueError(
                f'the checkpoint has {self._iter} iterations in {self._epoch} finished epochs, '
                f'but an epoch of this run has {length}: resume with the same images and batch '
                'size, or start a new run with --load-checkpoint'
            )
        return done

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.validate()


@LOOPS.register_module()
class IterBasedTrainLoop(SafeWaits, MMEngineIterBasedTrainLoop):
    """mmengine's loop, which resumes at the sample after which a checkpoint was written.

    mmengine 0.10 loads all that a run has seen once more, unless the sampler is its own.
    """

    def run(self) -> nn.Module:
        """Train to the end, from wherever the counter stands."""
        with finishing(self.runner):
            self.runner.call_hook('before_train')
            self.runner.call_hook('before_train_epoch')
            if can_start(self.dataloader):
                self.dataloader_iterator = batches_after(self.dataloader, self._iter)
            else:
                cast(_InfiniteDataloaderIterator, self.dataloader_iterator).skip_iter(self._iter)
            batches = self.waited_for(self.dataloader_iterator)
            self._validate_if_due()
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                batch = next(batches)
                with self.step():
                    self.run_iter(batch)  # pyright: ignore[reportArgumentType]
                self._validate_if_due()
            self.runner.call_hook('after_train_epoch')
            self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and due:
            self.validate()


OURS = {
    MMEngineEpochBasedTrainLoop: EpochBasedTrainLoop,
    MMEngineIterBasedTrainLoop: IterBasedTrainLoop,
}


@HOOKS.register_module()
class ResumableLoopHook(Hook):
    """Train with the loop of this package wherever the config has mmengine's of that kind.

    A config says ``by_epoch``, for which mmengine's Runner takes its own class in every scope. The
    classes here add behaviour only, no state, so that a loop that is built already becomes one. So
    do the loaders of all loops, which become ``PatientLoader``.
    """

    def before_run(self, runner: Runner) -> None:
        """Replace the classes, before a checkpoint sets the counters of the training loop."""
        loop = runner._train_loop
        if type(loop) in OURS:
            loop.__class__ = OURS[type(loop)]
        for loader in loaders(runner):
            if type(loader) is DataLoader:
                loader.__class__ = PatientLoader

    def after_run(self, runner: Runner) -> None:
        """End the data workers that are left."""
        for loader in loaders(runner):
            if isinstance(loader, PatientLoader):
                loader.end_workers()


def loaders(runner: Runner) -> list[DataLoader]:
    """The loaders of the loops that are built."""
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    return [loop.dataloader for loop in loops if isinstance(loop, BaseLoop)]
