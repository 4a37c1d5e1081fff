"""Training by epochs, resumed at any iteration."""

from collections.abc import Iterator

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from a2mim.registry import LOOPS

# [position]
# Where a loader begins: after a number of batches, without loading them.


def can_start(loader: DataLoader) -> bool:
    """Whether ``loader`` begins anywhere: its batch sampler or torch's on its sampler does.

    A batch sampler of a config counts batches in ``start_at``, a sampler counts samples.
    """
    batches = loader.batch_sampler
    by_sample = type(batches) is BatchSampler and hasattr(batches.sampler, 'start_at')
    return by_sample or hasattr(batches, 'start_at')


def start_after(loader: DataLoader, batches: int) -> None:
    """Let the next pass through ``loader`` begin after ``batches`` batches.

    Raises:
        ValueError: If it cannot begin anywhere but at its beginning.
    """
    own = loader.batch_sampler
    if can_start(loader):
        if type(own) is BatchSampler:
            own.sampler.start_at(batches * own.batch_size)
        else:
            own.start_at(batches)
    elif batches:
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        raise ValueError(
            f'the checkpoint was written after {batches} batches of an epoch, and '
            f'{type(loader.batch_sampler).__name__} with {type(sampler).__name__} cannot begin '
            'there: take EpochSampler in train_dataloader, or resume from the end of an epoch'
        )


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop, which goes on at the batch at which a checkpoint was written.

    mmengine 0.10 begins the epoch anew, with the counter of iterations where it was. And a
    checkpoint is written before the epoch is validated: a run resumed from the end of an epoch
    validates it first, since the run that was stopped may not have come to it, and what follows
    from an accuracy (the best checkpoint, an early stop) is not in the file.
    """

    def run(self) -> nn.Module:
        """Train to the end, from wherever the counters stand.

        Raises:
            ValueError: If the counters contradict each other.
        """
        done = self._batches_done()
        self.runner.call_hook('before_train')
        if self._epoch and not done:
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train what is left of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._batches_done()
        start_after(self.dataloader, done)
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_done(self) -> int:
        """Batches of the current epoch that have been trained on."""
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


# [iteration_based]
# Training by iterations, resumed at any of them.


@LOOPS.register_module()
class IterBasedTrainLoop(MMEngineIterBasedTrainLoop):
    """mmengine's loop, which goes on at the sample at which a checkpoint was written.

    mmengine 0.10 loads all that a run has seen once more, unless the sampler is its own. As by
    epochs, a validation that was due when the checkpoint was written comes first.
    """

    def run(self) -> nn.Module:
        """Train to the end, from wherever the counter stands."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if can_start(self.dataloader):
            self.dataloader_iterator = batches_after(self.dataloader, self._iter)
        else:
            self.dataloader_iterator.skip_iter(self._iter)
        if self._iter:
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and due:
            self.runner.val_loop.run()


def batches_after(loader: DataLoader, iterations: int) -> Iterator[dict]:
    """Batches without end, the first one that after ``iterations`` others."""
    sampler = loader.batch_sampler.sampler
    epoch, done = (0, iterations) if sampler.endless else divmod(iterations, len(loader))
    while True:
        sampler.set_epoch(epoch)
        start_after(loader, done)
        yield from loader
        epoch, done = epoch + 1, 0
