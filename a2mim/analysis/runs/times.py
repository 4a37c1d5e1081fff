"""How long an iteration of a run took."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from a2mim.analysis.runs.log import RunLog


@dataclass(frozen=True)
class TrainTime:
    """Seconds per iteration.

    Attributes:
        mean, std: Over all logged times; each is itself a mean since the one before.
        epochs: Mean of each epoch, by its number.
    """

    mean: float
    std: float
    epochs: dict[int, float]

    @property
    def slowest(self) -> int:
        """Number of the slowest epoch."""
        return max(self.epochs, key=self.epochs.__getitem__)

    @property
    def fastest(self) -> int:
        """Number of the fastest epoch."""
        return min(self.epochs, key=self.epochs.__getitem__)

    @property
    def std_of_epochs(self) -> float:
        """Standard deviation of the means of the epochs."""
        return float(np.std(list(self.epochs.values())))


def train_time(run: RunLog, *, include_outliers: bool = False) -> TrainTime:
    """The times of ``run``, without the first one of each epoch, which waits for workers.

    An epoch with one logged time keeps it. A run by iterations is one epoch.

    Args:
        run: From ``read_run``.
        include_outliers: Keep the first time of each epoch.

    Raises:
        ValueError: If no time was logged.
    """
    times = defaultdict(list)
    for line in run.train:
        if 'time' in line:
            times[line.get('epoch', 1)].append(line['time'])
    if not times:
        raise ValueError(f'{run.label} has no key "time" in its lines of training')
    if not include_outliers:
        times = {epoch: values[1:] or values for epoch, values in times.items()}
    everything = np.concatenate(list(times.values()))
    epochs = {epoch: float(np.mean(values)) for epoch, values in times.items()}
    return TrainTime(float(everything.mean()), float(everything.std()), epochs)
