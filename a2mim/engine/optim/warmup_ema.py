"""An average of the weights that follows quickly at first and slowly later."""

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from a2mim.registry import MODELS


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
