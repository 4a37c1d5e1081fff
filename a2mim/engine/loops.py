"""Training by epochs or by iterations, resumed at any iteration, and the hook that installs it.

A checkpoint is written before what an interval asks for is validated: a run resumed from there
validates first, since the run that was stopped may not have come to it, and what follows from an
accuracy (the best checkpoint, an early stop) is not in the file. With ``train_cfg.val_begin=0`` a
new run validates before its first step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast, runtime_checkable

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

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


@contextmanager
def finishing(runner: Runner) -> Iterator[None]:
    """Call ``finish`` of the hooks that have it, whatever ends the block."""
    try:
        yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, Finishes):
                hook.finish(runner)


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop, which resumes at the batch after which a checkpoint was written.

    mmengine 0.10 begins the epoch anew, with the iteration counter where it was.
    """

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
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_done(self) -> int:
        """Number of batches of the current epoch already trained on."""
        length = len(self.dataloader)
        done = self._iter - self._epoch * length
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
            self.runner.val_loop.run()


@LOOPS.register_module()
class IterBasedTrainLoop(MMEngineIterBasedTrainLoop):
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
            self._validate_if_due()
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                self.run_iter(next(self.dataloader_iterator))  # pyright: ignore[reportArgumentType]
                self._validate_if_due()
            self.runner.call_hook('after_train_epoch')
            self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and due:
            self.runner.val_loop.run()


OURS = {
    MMEngineEpochBasedTrainLoop: EpochBasedTrainLoop,
    MMEngineIterBasedTrainLoop: IterBasedTrainLoop,
}


@HOOKS.register_module()
class ResumableLoopHook(Hook):
    """Train with the loop of this package wherever the config has mmengine's of that kind.

    A config says ``by_epoch``, for which mmengine's Runner takes its own class in every scope. The
    classes here add behaviour only, no state, so that a loop that is built already becomes one.
    """

    def before_run(self, runner: Runner) -> None:
        """Replace the class of the training loop, before a checkpoint sets its counters."""
        loop = runner._train_loop
        if type(loop) in OURS:
            loop.__class__ = OURS[type(loop)]
