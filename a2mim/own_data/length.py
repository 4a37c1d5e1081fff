"""How long a run is, in optimiser steps or by a time, and its learning rate."""

import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from a2mim.length import FEWEST_EPOCHS, SHOWN, STEPS

FINETUNING_EPOCHS, FINETUNING_STEPS = 100, 1000  # of configs/own_data, and for few images
LONGEST_FINETUNING = 300  # epochs
WARMUP = 0.05  # of the steps
SHORT = 1000  # steps
SHOWN_IF_SHORT = 4  # pictures, measurements and checkpoints of a run
UNIT = {'h': 3600, 'm': 60, 's': 1}


@dataclass(frozen=True)
class Length:
    """Of a run.

    Attributes:
        epochs: Of a run that a time limits, what is expected.
        per_epoch: Steps.
        why: For a person.
        until: When the run is to have ended, in seconds since 1970; None without a limit.
    """

    epochs: int
    per_epoch: int
    why: str
    until: float | None = None

    @property
    def steps(self) -> int:
        """Of the run."""
        return self.epochs * self.per_epoch

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return int(WARMUP * self.steps)

    @property
    def interval(self) -> int:
        """Epochs from one picture or checkpoint to the next."""
        return math.ceil(self.epochs / (SHOWN_IF_SHORT if self.steps < SHORT else SHOWN))

    def entries(self, rate: float, by: float, validates: bool) -> dict[str, dict]:
        """``train_cfg`` and ``param_scheduler`` of a config.

        Args:
            rate: Learning rate.
            by: What it has fallen to at the end is ``rate`` divided by this.
            validates: Whether the run validates.
        """
        kind, loop = 'WarmupCosineLR', dict(by_epoch=True)
        if self.until is not None:
            kind, loop = 'WarmupHoldLR', dict(type='EpochBasedTrainLoop')
        validation = {'val_interval': self.interval} if validates else {}
        falls = dict(warmup=self.warmup, eta_min=float(f'{rate / by:.2g}'), by_epoch=False)
        return dict(
            train_cfg=dict(**loop, max_epochs=self.epochs, **validation),
            param_scheduler=dict(type=kind, **falls),
        )

    def hooks(self) -> list[dict]:
        """That end a run at its time."""
        return [] if self.until is None else [dict(type='TimeBudgetHook', until=round(self.until))]


def finetuning_epochs(per_epoch: int) -> tuple[int, str]:
    """Epochs of a fine-tuning, and why."""
    if FINETUNING_EPOCHS * per_epoch < FINETUNING_STEPS:
        epochs = min(LONGEST_FINETUNING, math.ceil(FINETUNING_STEPS / per_epoch))
        return epochs, f'few images: {FINETUNING_STEPS} steps, at most {LONGEST_FINETUNING} epochs'
    epochs = min(FINETUNING_EPOCHS, max(FEWEST_EPOCHS, round(STEPS / per_epoch)))
    if epochs < FINETUNING_EPOCHS:
        return epochs, f'many images: about {STEPS} steps, at least {FEWEST_EPOCHS} epochs'
    return epochs, 'as in configs/own_data'


def learning_rate(base: float, base_batch: int, batch: int) -> float:
    """Grows with the root of the images of a step, as is right for Adam.

    Reference:
        Malladi et al., On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022
        (https://arxiv.org/abs/2205.10287).
    """
    return float(f'{base * math.sqrt(batch / base_batch):.4g}')


def process_start() -> float:
    """When this process was started, in seconds since 1970; now, where the system does not say."""
    try:
        fields = Path('/proc/self/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf('SC_CLK_TCK')
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time()
    return time.time() - age


def seconds_of(text: str) -> float:
    """Of a time such as 4h, 1h30m or 90s.

    Raises:
        ValueError: If it is none, or zero.
    """
    parts = re.fullmatch(r'(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?', text)
    values = [float(part or 0) for part in parts.groups()] if parts else []
    total = sum(value * unit for value, unit in zip(values, UNIT.values(), strict=False))
    if not total:
        raise ValueError(f'{text!r} is no time; write hours, minutes or seconds: 4h, 1h30m, 90s')
    return total
