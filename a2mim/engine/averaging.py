"""An average of the weights that follows quickly at first and slowly later."""

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from a2mim.registry import HOOKS, MODELS


@MODELS.register_module()
class WarmupEMA(ExponentialMovingAverage):
    """Exponential moving average of the parameters with the published warm-up.

    The share kept of the old average, mu, rises linearly from 0.9 of its final value to it:
    ``mu(i) = mu * (1 - (1 - i / W) * (1 - 0.9))`` for iterations i up to W. Buffers such as batch
    statistics are copied, not averaged, as in the published system.

    Call ``update_parameters`` after every iteration. Under gradient accumulation ``interval``
    iterations make an optimiser step, and the average moves with each step. mmengine's classes
    move it one iteration later, so that the last step of an epoch would not be evaluated. The first
    call copies, as theirs does; what the weights were before is forgotten within the warm-up.

    Args:
        model: The module whose parameters are averaged.
        momentum: Share of the new weights once warmed up, mmengine's convention: 1 - mu.
        warmup_iters: W, iterations of the warm-up.
        kwargs: Further arguments of mmengine's ``ExponentialMovingAverage``.

    Raises:
        ValueError: If ``warmup_iters`` is less than 1.
    """

    START = 0.9  # share of the final mu at the first iteration

    def __init__(
        self, model: nn.Module, momentum: float = 1e-4, *, warmup_iters: int, **kwargs: object
    ) -> None:
        super().__init__(model, momentum, **kwargs)
        if warmup_iters < 1:
            raise ValueError(
                f'warmup_iters={warmup_iters} must be at least 1; without a warm-up take '
                'ExponentialMovingAverage'
            )
        self.warmup_iters = warmup_iters

    def momentum_at(self, step: int) -> float:
        """Share of the new weights at iteration ``step``."""
        missing = max(0.0, 1 - step / self.warmup_iters)
        return 1 - (1 - self.momentum) * (1 - missing * (1 - self.START))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, skipped: Tensor | None = None) -> None:
        """Count an iteration, and move the average if it ended an optimiser step.

        Args:
            model: What is averaged.
            skipped: 1 on the device if the finite guard let the step move nothing, else 0.
        """
        step = int(self.steps)  # lives on the CPU: no device is waited for
        average, source = [*self.module.parameters()], [*model.parameters()]
        if step == 0:
            # The copy was made before pre-trained weights were loaded.
            torch._foreach_copy_(average, source)
        elif (step + 1) % self.interval == 0:
            share = self.momentum_at(step)
            if skipped is None:
                torch._foreach_lerp_(average, source, share)
            else:
                shares = torch.where(skipped > 0, 0.0, share).expand(len(average))
                torch._foreach_lerp_(average, source, [*shares])
        for copied, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
        self.steps += 1


# [warmup_ema]
# The average of the weights that published fine-tuning evaluates and saves.


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


# [rank_buffers]
# All processes validate with the running statistics that a checkpoint would have.


@HOOKS.register_module()
class RankBuffersHook(Hook):
    """Validate every share of the data with the buffers of the first process.

    Without ``sync_bn`` each process has batch statistics of its own, and a checkpoint has those of
    the first one. Training does not read them. Validation does: with those of a process's own, an
    accuracy after a resume would not be that of the run that was never stopped, nor that of the
    checkpoint. The runner of the tools registers the hook.
    """

    # After the averaged weights have taken the place of the trained ones, with their buffers.
    priority = 'LOW'
    only_looks = True

    def before_val_epoch(self, runner: Runner) -> None:
        """Take the buffers of the first process."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer)
