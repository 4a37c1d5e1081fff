"""A rate that falls at given epochs, after a linear warm-up."""

from collections.abc import Sequence

from mmengine.optim import BaseOptimWrapper

from a2mim.engine.schedulers.warmup import WarmupLR
from a2mim.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupStepLR(WarmupLR):
    """Multiply the rate by ``gamma`` at every milestone.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        milestones: Epochs at which the rate falls.
        gamma: What it is multiplied with.
        kwargs: Arguments of ``WarmupLR``.
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper,
        *,
        milestones: Sequence[int],
        gamma: float = 0.1,
        **kwargs: object,
    ) -> None:
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, **kwargs)

    def regular(self, base: float, step: int) -> float:
        """The rate after the milestones that lie behind ``step``."""
        epoch = step // self.epoch_length
        return base * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
