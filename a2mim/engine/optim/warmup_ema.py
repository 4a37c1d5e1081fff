"""An average of the weights that follows quickly at first and slowly later."""

from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from a2mim.registry import MODELS


@MODELS.register_module()
class WarmupEMA(ExponentialMovingAverage):
    """Exponential moving average of the parameters with the published warm-up.

    The share kept of the old average, mu, rises linearly from 0.9 of its final value to it.
    Buffers such as batch statistics are copied, not averaged, as in the published system.

    Args:
        model: The module whose parameters are averaged.
        momentum: Share of the new weights once warmed up, mmengine's convention: 1 - mu.
        warmup_iters: Iterations of the warm-up.
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

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: Tensor) -> None:
        """Move the average towards the weights, in place."""
        averaged_param.lerp_(source_param, self.momentum_at(int(steps)))
