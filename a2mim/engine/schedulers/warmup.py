"""A regular schedule times a linear warm-up, in closed form.

i counts steps of the scheduler (iterations, or epochs where it steps by epoch) from 0, W is the
length of the warm-up and T the length of the schedule, in the same unit.

mmengine chains schedulers by multiplying the current rate. A cosine with a minimum is no product,
so a chain gives the published rates only nearly; a closed form gives them exactly, and resumes
from the step number alone.
"""

from abc import abstractmethod

from mmengine.optim import BaseOptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler


class WarmupLR(LRSchedulerMixin, _ParamScheduler):
    """Base of the schedules: ``lr(i) = regular(base, i) * (1 - (1 - i / W) * (1 - ratio))``.

    The second factor is 1 from step W on.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        warmup: W, the length of the warm-up; 0 for none.
        warmup_ratio: The second factor at i = 0.
        epoch_length: Iterations per epoch where the schedule was converted from epochs, else 1.
        kwargs: ``begin``, ``end``, ``by_epoch`` and the rest of mmengine's base class.

    Raises:
        ValueError: If ``warmup`` is negative or ``warmup_ratio`` outside [0, 1].
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper,
        *,
        warmup: int = 0,
        warmup_ratio: float = 0.0,
        epoch_length: int = 1,
        **kwargs: object,
    ) -> None:
        if warmup < 0 or not 0 <= warmup_ratio <= 1:
            raise ValueError(
                f'warmup={warmup} must not be negative, and '
                f'warmup_ratio={warmup_ratio} must lie in [0, 1]'
            )
        self.warmup = warmup
        self.warmup_ratio = warmup_ratio
        self.epoch_length = epoch_length
        super().__init__(optimizer, **kwargs)
        # Under gradient accumulation the schedule rightly moves before the first optimiser step.
        # mmengine warns of that order unless a step was counted.
        self.optimizer._global_step = 0

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: object,
        epoch_length: int,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        **kwargs: object,
    ) -> 'WarmupLR':
        """Build from numbers of epochs what steps by iteration (``convert_to_iter_based``)."""
        if not by_epoch:
            raise ValueError('by_epoch=False cannot be converted: the numbers are no epochs')
        return cls(
            *args,
            warmup=warmup * epoch_length,
            begin=begin * epoch_length,
            end=end if end == INF else end * epoch_length,
            epoch_length=epoch_length,
            by_epoch=False,
            **kwargs,
        )

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on at the saved step. The rates follow this run's config, which may be longer."""
        super().load_state_dict({name: state_dict[name] for name in ('last_step', '_global_step')})

    @abstractmethod
    def regular(self, base: float, step: int) -> float:
        """The rate at ``step`` without the warm-up, for a group of rate ``base``."""

    @property
    def length(self) -> int:
        """T, the number of steps."""
        return self.end - self.begin

    def _get_value(self) -> list[float]:
        factor = 1.0
        if self.last_step < self.warmup:
            factor = 1 - (1 - self.last_step / self.warmup) * (1 - self.warmup_ratio)
        return [factor * self.regular(base, self.last_step) for base in self.base_values]
