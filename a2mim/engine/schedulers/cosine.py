"""The two cosines of the published recipes; they differ in what happens during the warm-up.

i counts steps, W is the length of the warm-up, T that of the schedule, ``base`` a group's rate.
"""

import math

from mmengine.optim import BaseOptimWrapper

from a2mim.engine.schedulers.warmup import WarmupLR
from a2mim.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(WarmupLR):
    """Warm up from exactly 0, then anneal over the rest: ``(i - W) / (T - W)`` of a half period.

    The published system calls it StepFixCosineAnnealing. The cosine is also evaluated during the
    warm-up, at negative progress. ``eta_min`` is absolute: a group whose rate is below it, such as
    the lowest layers under layer decay, rises to it.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        warmup: W; its first step has rate 0.
        eta_min: Rate at the end, the same for every group.
        kwargs: Arguments of ``WarmupLR``; without ``end``, T is the length of the run.

    Raises:
        ValueError: If the warm-up is not shorter than the schedule.
    """

    def __init__(
        self, optimizer: BaseOptimWrapper, *, warmup: int, eta_min: float, **kwargs: object
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

    def regular(self, base: float, step: int) -> float:
        """Anneal over the steps after the warm-up."""
        progress = (step - self.warmup) / (self.length - self.warmup)
        return _anneal(base, self.eta_min, progress)


@PARAM_SCHEDULERS.register_module()
class OverlapCosineLR(WarmupLR):
    """Anneal from step 0 on, ``i / T`` of a half period, with the warm-up on top of it.

    Args:
        optimizer: The optimiser wrapper whose groups are scheduled.
        eta_min: Rate at the end, the same for every group.
        stairs: Hold the cosine within an epoch while the warm-up goes on per iteration.
        kwargs: Arguments of ``WarmupLR``; without ``end``, T is the length of the run.
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper,
        *,
        eta_min: float,
        stairs: bool = False,
        **kwargs: object,
    ) -> None:
        self.eta_min = eta_min
        self.stairs = stairs
        super().__init__(optimizer, **kwargs)

    def regular(self, base: float, step: int) -> float:
        """Anneal over all steps, or hold the rate of the epoch's first step."""
        if self.stairs:
            step -= step % self.epoch_length
        return _anneal(base, self.eta_min, step / self.length)


def _anneal(base: float, eta_min: float, progress: float) -> float:
    """Half a cosine period from ``base`` at progress 0 to ``eta_min`` at progress 1."""
    return eta_min + 0.5 * (base - eta_min) * (1 + math.cos(math.pi * progress))
