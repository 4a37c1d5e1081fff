"""One number for a run, which depends less on chance than that of its last epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from a2mim.analysis.runs.log import RunLog, read_run

T = TypeVar('T')
PARTS = '*/vis_data/scalars.json'  # of one of our runs
PUBLISHED = '*.log.json'


def find_runs(path: str | Path) -> list[RunLog]:
    """The run at ``path``, or all runs below a folder, the one that logged last at the end.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file is no log.
    """
    path = Path(path)
    if path.is_file() or any(path.glob(PARTS)):
        return [read_run(path)]
    logs = {file: file for file in path.rglob(PUBLISHED)}
    logs |= {file.parents[2]: file for file in sorted(path.rglob(PARTS))}
    if not logs:
        raise FileNotFoundError(f'there is no log at {path} or in the folders below it')
    by_age = sorted(logs, key=lambda place: logs[place].stat().st_mtime)
    return [read_run(place) for place in by_age]


def median_of_last(run: RunLog, key: str, epochs: int, number: int) -> tuple[float, float]:
    """Median and highest value of a validation in the last ``number`` of ``epochs`` epochs.

    Raises:
        ValueError: If the run logged no such value there, or was not validated at ``epochs``.
    """
    values = _validation(run, key)
    last = [value for epoch, value in values.items() if epochs - number < epoch <= epochs]
    if epochs not in values:
        raise ValueError(
            f'{run.label} has {key} of epochs up to {max(values)}, not of epoch {epochs}'
        )
    return float(np.median(last)), max(last)


def high_value(run: RunLog, key: str) -> float:
    """Mean of the highest value of a validation and of its 99th percentile.

    Raises:
        ValueError: If the run logged no such value.
    """
    values = list(_validation(run, key).values())
    return (max(values) + float(np.percentile(values, 99))) / 2


def over_runs(
    runs: Sequence[RunLog], measure: Callable[[RunLog], T]
) -> tuple[list[tuple[RunLog, T]], list[str]]:
    """Runs with their values, and why others have none.

    Raises:
        ValueError: Of the first run, if none has a value.
    """
    found, errors = [], []
    for run in runs:
        try:
            found.append((run, measure(run)))
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found, [f'left out: {error}' for error in errors]


def _validation(run: RunLog, key: str) -> dict[int, float]:
    found = {line['step']: line[key] for line in run.val if key in line}
    if not found:
        known = sorted({name for line in run.val for name in line} - {'step', 'epoch', 'mode'})
        raise ValueError(
            f'{run.label} validated no {key!r}; it has {", ".join(known) or "no validation"}'
        )
    return found
