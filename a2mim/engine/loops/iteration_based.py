"""Training by iterations, resumed at any of them."""

from collections.abc import Iterator

from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from a2mim.engine.loops.position import can_start, start_after
from a2mim.registry import LOOPS


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
