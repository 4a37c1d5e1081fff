"""The average of the weights that published fine-tuning evaluates and saves."""

from mmengine.hooks import EMAHook
from mmengine.runner import BaseLoop, Runner

from a2mim.registry import HOOKS


@HOOKS.register_module()
class WarmupEMAHook(EMAHook):
    """mmengine's ``EMAHook`` with ``WarmupEMA``, in epochs and with every optimiser step.

    The lengths follow from the run: iterations per epoch from the loader, and iterations per
    optimiser step from the wrapper, whatever the launch has made of both. Evaluation and the
    ``state_dict`` of checkpoints have the averaged weights, as with mmengine's hook.

    Args:
        momentum: Share of the new weights once warmed up: 1 - mu.
        warmup_epochs: Length of the warm-up.

    Raises:
        ValueError: If ``warmup_epochs`` is less than 1.
    """

    def __init__(self, momentum: float, warmup_epochs: int = 20) -> None:
        if warmup_epochs < 1:
            raise ValueError(f'warmup_epochs={warmup_epochs} must be at least 1; published: 20')
        super().__init__('a2mim.WarmupEMA', momentum=momentum)
        self.warmup_epochs = warmup_epochs

    def before_run(self, runner: Runner) -> None:
        """Copy the model, and measure the run."""
        interval, epoch_length = 1, 1  # of a test, which averages nothing
        if isinstance(runner._train_loop, BaseLoop):
            interval = runner.optim_wrapper._accumulative_counts
            epoch_length = len(runner.train_dataloader)
        self.ema_cfg.update(interval=interval, warmup_iters=self.warmup_epochs * epoch_length)
        super().before_run(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Move the average, unless the update was skipped."""
        guard = getattr(runner.optim_wrapper, 'guard', None)
        self.ema_model.update_parameters(self.src_model, None if guard is None else guard.bad)
