"""Training by epochs, resumed at any iteration."""

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from torch import nn

from a2mim.engine.loops.position import start_after
from a2mim.registry import LOOPS


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
