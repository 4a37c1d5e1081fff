"""Learning rate schedules with a linear warm-up, in closed form.

i counts steps of the scheduler (iterations, or epochs where it steps by epoch) from 0, W is the
length of the warm-up and T that of the schedule, in the same unit; ``base`` is the learning rate of
a parameter group. The two cosine schedules of the reference recipes differ during the warm-up.

mmengine chains schedulers by multiplying the current rate. A cosine with a minimum is not a
product, so a chain gives the reference rates only approximately; the closed form gives them
exactly, and resumes from the step number alone.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from mmengine.hooks import Hook
from mmengine.optim import BaseOptimWrapper, OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.runner import Runner

from a2mim.registry import HOOKS, PARAM_SCHEDULERS


class WarmupLR(LRSchedulerMixin, _ParamScheduler):
    """Base class: ``lr(i) = without_warmup(base, i) * (1 - (1 - i / W) * (1 - ratio))``.

    The second factor is 1 from step W on.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        warmup: W, the length of the warm-up, or below 1 its share of the schedule; 0 for none.
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
        warmup: float = 0,
        warmup_ratio: float = 0.0,
        epoch_length: int = 1,
        **kwargs: Any,
    ) -> None:
        if warmup < 0 or not 0 <= warmup_ratio <= 1:
            raise ValueError(
                f'warmup={warmup} must not be negative, and '
                f'warmup_ratio={warmup_ratio} must lie in [0, 1]'
            )
        if 0 < warmup < 1:
            warmup = warmup * (kwargs['end'] - kwargs.get('begin', 0))
        self.warmup = int(warmup)
        self.warmup_ratio = warmup_ratio
        self.epoch_length = epoch_length
        super().__init__(optimizer, **kwargs)
        # Under gradient accumulation the schedule steps before the first optimiser step, which
        # mmengine warns about unless a step was counted.
        vars(self.optimizer)['_global_step'] = 0

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: BaseOptimWrapper,
        *,
        epoch_length: int,
        warmup: float = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> 'WarmupLR':
        """Build a schedule by iteration from numbers of epochs (``convert_to_iter_based``)."""
        if not by_epoch:
            raise ValueError('by_epoch=False cannot be converted: the numbers are not epochs')
        return cls(
            optimizer,
            warmup=warmup if warmup < 1 else warmup * epoch_length,
            begin=begin * epoch_length,
            end=end if end == INF else end * epoch_length,
            epoch_length=epoch_length,
            by_epoch=False,
            **kwargs,
        )

    def load_state_dict(self, state_dict: dict) -> None:
        """Resume at the saved step. The rates follow this run's config, which may be longer."""
        super().load_state_dict({name: state_dict[name] for name in ('last_step', '_global_step')})

    @abstractmethod
    def without_warmup(self, base: float, step: int) -> float:
        """The rate at ``step`` without the warm-up, for a group of rate ``base``."""

    @property
    def length(self) -> int:
        """T, the number of steps."""
        return self.end - self.begin

    def _get_value(self) -> list[float]:
        factor = 1.0
        if self.last_step < self.warmup:
            factor = 1 - (1 - self.last_step / self.warmup) * (1 - self.warmup_ratio)
        return [factor * self.without_warmup(base, self.last_step) for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(WarmupLR):
    """Warm up from exactly 0, then anneal over the rest: ``(i - W) / (T - W)`` of a half period.

    OpenMixup calls it StepFixCosineAnnealing. The cosine is also evaluated during the warm-up, at
    negative progress. ``eta_min`` is absolute: a group whose rate is below it, such as the lowest
    layers under layer decay, rises to it.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        warmup: W; its first step has rate 0.
        eta_min: Rate at the end, the same for every group.
        kwargs: Arguments of ``WarmupLR``; without ``end``, T is the length of the run.

    Raises:
        ValueError: If the warm-up is not shorter than the schedule.
    """

    def __init__(
        self, optimizer: BaseOptimWrapper, *, warmup: float, eta_min: float, **kwargs: Any
    ) -> None:
        self.eta_min = eta_min
        begin, end = kwargs.get('begin', 0), kwargs.get('end', math.inf)
        if warmup >= end - begin:
            per_epoch = kwargs.get('epoch_length', 1)
            unit = 'epochs' if per_epoch > 1 else 'steps'
            raise ValueError(
                f'warmup={warmup // per_epoch} must be shorter than the schedule of '
                f'{(end - begin) // per_epoch} {unit}; '
                'for a short trial add --cfg-options param_scheduler.warmup=0'
            )
        super().__init__(optimizer, warmup=warmup, **kwargs)

    def without_warmup(self, base: float, step: int) -> float:
        """Anneal over the steps after the warm-up."""
        progress = (step - self.warmup) / (self.length - self.warmup)
        return _anneal(base, self.eta_min, progress)


@PARAM_SCHEDULERS.register_module()
class WarmupHoldLR(WarmupLR):
    """Warm up, hold the rate, and anneal at the end, by half a cosine period.

    Until the anneal begins the rates do not depend on the length of the schedule, which may be
    decided as late as that (``TimeBudgetHook``). An anneal over the last fifth reaches the loss of
    a cosine over the whole length (reference, section 3).

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        eta_min: Rate at the end, the same for every group.
        hold: Share of the schedule before the anneal.
        kwargs: Arguments of ``WarmupLR``; without ``end``, T is the length of the run.

    Raises:
        ValueError: If ``hold`` is outside [0, 1).

    Reference:
        Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
        NeurIPS 2024 (https://arxiv.org/abs/2405.18392).
    """

    def __init__(
        self, optimizer: BaseOptimWrapper, *, eta_min: float, hold: float = 0.8, **kwargs: Any
    ) -> None:
        if not 0 <= hold < 1:
            raise ValueError(f'hold={hold}, the share before the anneal, must lie in [0, 1)')
        self.eta_min, self.hold = eta_min, hold
        super().__init__(optimizer, **kwargs)

    def length_after(self, steps: int) -> int:
        """The shortest T of which the anneal begins after ``steps`` steps or later."""
        return math.ceil(steps / self.hold) if self.hold else steps

    def without_warmup(self, base: float, step: int) -> float:
        """Hold, then anneal."""
        held = self.hold * self.length
        return _anneal(base, self.eta_min, max(0.0, step - held) / (self.length - held))


@PARAM_SCHEDULERS.register_module()
class OverlapCosineLR(WarmupLR):
    """Anneal from step 0 on, ``i / T`` of a half period, with the warm-up on top of it.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        eta_min: Rate at the end, the same for every group.
        stairs: Hold the cosine within an epoch; the warm-up still proceeds per iteration.
        kwargs: Arguments of ``WarmupLR``; without ``end``, T is the length of the run.
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper,
        *,
        eta_min: float,
        stairs: bool = False,
        **kwargs: Any,
    ) -> None:
        self.eta_min = eta_min
        self.stairs = stairs
        super().__init__(optimizer, **kwargs)

    def without_warmup(self, base: float, step: int) -> float:
        """Anneal over all steps, or hold the rate of the epoch's first step."""
        if self.stairs:
            step -= step % self.epoch_length
        return _anneal(base, self.eta_min, step / self.length)


@PARAM_SCHEDULERS.register_module()
class WarmupStepLR(WarmupLR):
    """Multiply the rate by ``gamma`` at every milestone.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        milestones: Epochs at which the rate falls.
        gamma: Factor per milestone.
        kwargs: Arguments of ``WarmupLR``.
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper,
        *,
        milestones: Sequence[int],
        gamma: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, **kwargs)

    def without_warmup(self, base: float, step: int) -> float:
        """The rate after the milestones up to ``step``."""
        epoch = step // self.epoch_length
        return base * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@HOOKS.register_module()
class WeightDecayHook(Hook):
    """Take the weight decay from that of the optimiser to ``end``, by half a cosine period.

    Groups without weight decay keep none. A resumed run finds where it began in its checkpoint.

    Args:
        end: Weight decay of the last iteration.
    """

    def __init__(self, end: float) -> None:
        if end < 0:
            raise ValueError(f'end={end} of the weight decay must not be negative')
        self.end = end

    def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Set the weight decay of this iteration."""
        progress = runner.iter / max(1, runner.max_iters - 1)
        for group in cast(OptimWrapper, runner.optim_wrapper).param_groups:
            begin = group.setdefault('initial_weight_decay', group['weight_decay'])
            if begin:
                group['weight_decay'] = _anneal(begin, self.end, progress)


def _anneal(base: float, eta_min: float, progress: float) -> float:
    """Half a cosine period from ``base`` at progress 0 to ``eta_min`` at progress 1."""
    return eta_min + 0.5 * (base - eta_min) * (1 + math.cos(math.pi * progress))
