"""What a run keeps of its logged values: a window for log lines, a thinned curve for pictures.

mmengine keeps up to a million values of each and copies them all to append one; a checkpoint holds
them. Here both stay the same size however long the run.
"""

from collections.abc import Iterable, Sized
from typing import TypedDict, cast

import numpy as np
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner

MAX_POINTS = 1000
WINDOW = 100  # values, unless log lines look further back
CURVES = 'curves'  # their name in the message hub, and so in a checkpoint


class Curve(TypedDict):
    """Means of ``step`` values each, and the sum of the ``count`` values after the last of them."""

    step: int
    means: list[float]
    sum: float
    count: int


def extend_curve(curve: Curve, value: float) -> None:
    """Add the value of the next iteration; a full curve is thinned to half its points."""
    curve['sum'] += value
    curve['count'] += 1
    if curve['count'] < curve['step']:
        return
    means = curve['means']
    means.append(curve['sum'] / curve['step'])
    curve['sum'], curve['count'] = 0.0, 0
    if len(means) == MAX_POINTS:
        pairs = zip(means[::2], means[1::2], strict=True)
        curve['means'] = [(first + second) / 2 for first, second in pairs]
        curve['step'] *= 2


def curve_of(values: Iterable[float]) -> Curve:
    """The curve of ``values``, from the first iteration on."""
    array = np.asarray(values, dtype=float)
    step = 1
    while len(array) // step >= MAX_POINTS:
        step *= 2
    whole = len(array) - len(array) % step
    means, rest = array[:whole].reshape(-1, step).mean(axis=1), array[whole:]
    return Curve(step=step, means=means.tolist(), sum=float(rest.sum()), count=len(rest))


def curve_points(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Iterations, each the last of its point, and values."""
    values, count = list(curve['means']), curve['count']
    iterations = curve['step'] * np.arange(1, len(values) + 1)
    if count:
        values.append(curve['sum'] / count)
        iterations = np.append(iterations, curve['step'] * (len(values) - 1) + count)
    return iterations, np.array(values)


def record_loss(hub: MessageHub, name: str, value: float) -> None:
    """Add a loss to its curve in ``hub``; it is saved and resumed with the run."""
    curves = hub.get_info(CURVES, {})
    extend_curve(curves.setdefault(name, curve_of([])), value)
    hub.update_info(CURVES, curves)


def loss_curves(hub: MessageHub) -> dict[str, Curve]:
    """The curves of all losses by name, from the histories of those that have none."""
    kept = hub.get_info(CURVES, {})
    histories = {
        name.removeprefix('train/'): history.data[0]
        for name, history in hub.log_scalars.items()
        if name.startswith('train/') and 'loss' in name
    }
    return {name: kept.get(name) or curve_of(values) for name, values in histories.items()}


def keep_curves(hub: MessageHub) -> None:
    """Make the curves of losses that have a history alone, as in earlier checkpoints."""
    curves = loss_curves(hub)
    if curves:
        hub.update_info(CURVES, curves)


def log_window(runner: Runner) -> tuple[int, set[str]]:
    """How many values log lines look back, and the sources of which they read all values."""
    processor, validation = runner.log_processor, runner.val_loop
    needed = [WINDOW, processor.window_size]
    if validation is not None:
        needed.append(len(cast(Sized, validation.dataloader)))  # its time is the mean of all
    unbounded = set()
    for entry in processor.custom_cfg:
        size = entry.get('window_size')
        if size == 'epoch':
            needed.append(len(runner.train_dataloader))
        elif isinstance(size, int):
            needed.append(size)
        else:
            unbounded.add(entry['data_src'])
    return max(needed), unbounded


def bound_histories(hub: MessageHub, window: int, unbounded: Iterable[str] = ()) -> None:
    """Cut every history to its last ``window`` values, now and when values are added."""
    scalars = hub.log_scalars
    for name, history in scalars.items():
        source = name.partition('/')[2]
        if source in unbounded or history.max_length == window:
            continue
        values, counts = history.data
        scalars[name] = HistoryBuffer(values[-window:], counts[-window:], window)
