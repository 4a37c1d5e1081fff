"""Exponential moving average of the weights with a warm-up, and the buffers of rank 0."""

from typing import cast

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch import _foreach_copy_ as foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
from torch import _foreach_lerp_ as foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]

from a2mim.registry import HOOKS, MODELS


@MODELS.register_module()
class WarmupEMA(ExponentialMovingAverage):
    """Exponential moving average of the parameters with the warm-up of OpenMixup.

    The weight of the old average, mu, rises linearly from 0.9 of its final value to it:
    ``mu(i) = mu * (1 - (1 - i / W) * (1 - 0.9))`` for iterations i up to W. Buffers such as batch
    statistics are copied, not averaged, as in the reference implementation.

    Call ``update_parameters`` after every iteration. Under gradient accumulation ``interval``
    iterations make an optimiser step, and the average is updated with each step. mmengine's classes
    update it one iteration later, so that the last step of an epoch would not be evaluated. The
    first call copies, as theirs does; the weights before it lose their share within the warm-up.

    Args:
        model: The module whose parameters are averaged.
        momentum: Weight of the new parameters after the warm-up, mmengine's convention: 1 - mu.
        warmup_iters: W, iterations of the warm-up.
        interval: Iterations per optimiser step.

    Raises:
        ValueError: If ``warmup_iters`` is less than 1.
    """

    START = 0.9  # share of the final mu at the first iteration

    def __init__(
        self, model: nn.Module, momentum: float, *, warmup_iters: int, interval: int = 1
    ) -> None:
        super().__init__(model, momentum, interval)
        if warmup_iters < 1:
            raise ValueError(
                f'warmup_iters={warmup_iters} must be at least 1; without a warm-up take '
                'ExponentialMovingAverage'
            )
        self.warmup_iters = warmup_iters

    def momentum_at(self, step: int) -> float:
        """Weight of the new parameters at iteration ``step``."""
        missing = max(0.0, 1 - step / self.warmup_iters)
        return 1 - (1 - self.momentum) * (1 - missing * (1 - self.START))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, skipped: Tensor | None = None) -> None:
        """Count an iteration, and update the average if it ended an optimiser step.

        Args:
            model: Its parameters are averaged.
            skipped: 1 on the device if the finite guard has skipped the step, else 0.
        """
        step = int(self.steps)  # on the CPU: no wait for the device
        average: list[Tensor] = [*self.module.parameters()]
        source: list[Tensor] = [*model.parameters()]
        if step == 0:
            # The copy was made before pre-trained weights were loaded.
            foreach_copy_(average, source)
        elif (step + 1) % self.interval == 0:
            weight = self.momentum_at(step)
            if skipped is None:
                foreach_lerp_(average, source, weight)
            else:
                weights = torch.where(skipped > 0, 0.0, weight).expand(len(average))
                foreach_lerp_(average, source, [*weights])
        for copied, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
        self.steps += 1


@HOOKS.register_module()
class WarmupEMAHook(EMAHook):
    """mmengine's ``EMAHook`` with ``WarmupEMA``, whose warm-up is given in epochs.

    Iterations per epoch are taken from the loader, and iterations per optimiser step from the
    optimiser wrapper. Evaluation and the ``state_dict`` of checkpoints have the averaged weights,
    as with mmengine's hook.

    Args:
        momentum: Weight of the new parameters after the warm-up: 1 - mu.
        warmup_epochs: Length of the warm-up.

    Raises:
        ValueError: If ``warmup_epochs`` is less than 1.
    """

    def __init__(self, momentum: float, warmup_epochs: int = 20) -> None:
        if warmup_epochs < 1:
            raise ValueError(f'warmup_epochs={warmup_epochs} must be at least 1, such as 20')
        super().__init__('a2mim.WarmupEMA', momentum=momentum)
        self.warmup_epochs = warmup_epochs

    def before_run(self, runner: Runner) -> None:
        """Copy the model, with the lengths of this run."""
        interval, epoch_length = 1, 1  # of a test, which averages nothing
        if isinstance(runner._train_loop, BaseLoop):
            interval = cast(OptimWrapper, runner.optim_wrapper)._accumulative_counts
            epoch_length = len(runner.train_dataloader)
        self.ema_cfg |= dict(interval=interval, warmup_iters=self.warmup_epochs * epoch_length)
        super().before_run(runner)

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Update the average, unless the update of the weights was skipped."""
        guard = getattr(runner.optim_wrapper, 'guard', None)
        self.ema_model.update_parameters(self.src_model, None if guard is None else guard.bad)


@HOOKS.register_module()
class RankBuffersHook(Hook):
    """Validate in all processes with the buffers of rank 0.

    Without ``sync_bn`` each process has batch statistics of its own, and a checkpoint has those of
    rank 0. Training does not read them, but validation does: with a process's own, the accuracy
    after a resume would differ from that of the uninterrupted run and of the checkpoint.
    """

    # After EMAHook has swapped in the averaged weights and their buffers.
    priority = 'LOW'
    only_looks = True

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast the buffers of rank 0."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer)
