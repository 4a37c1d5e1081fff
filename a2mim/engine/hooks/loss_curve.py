"""``loss.png``: how every loss went, readable without any tool."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.registry import HOOKS

MAX_POINTS = 1000  # more than that, and neighbours are averaged before they are drawn
SECONDS_BETWEEN = 30  # a drawing takes some tenths of a second, an epoch may take less


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Draw ``loss.png`` in the work dir at the end, and now and then on the way.

    Each loss has axes of its own, since the terms differ by orders of magnitude. The curves begin
    at the first iteration of the run, through every resume.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._drawn = 0.0

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Keep the picture fresh, but not at the cost of short epochs."""
        if time.monotonic() - self._drawn > SECONDS_BETWEEN:
            self._draw(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the whole run."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        histories = {
            name.removeprefix('train/'): scalars.data[0]
            for name, scalars in runner.message_hub.log_scalars.items()
            if name.startswith('train/') and 'loss' in name
        }
        if histories:
            draw_curves(histories, Path(runner.work_dir) / 'loss.png')
        self._drawn = time.monotonic()


def draw_curves(histories: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw one axes per history, the raw values faint and their moving average over them.

    Args:
        histories: Values per iteration, by name.
        path: Where the PNG goes.
    """
    figure = Figure(figsize=(8, 2.4 * len(histories)), layout='constrained')
    axes = figure.subplots(len(histories), sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, histories.items(), strict=True):
        iterations, values = _thinned(np.asarray(values, dtype=float))
        axis.plot(iterations, values, alpha=0.3, linewidth=1)
        axis.plot(iterations, _smoothed(values), color='C0', linewidth=1.5)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel('iteration')
    FigureCanvasAgg(figure).print_png(path)


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and values, at most ``MAX_POINTS`` of them, each the mean of its neighbours."""
    parts = np.array_split(values, min(len(values), MAX_POINTS))
    ends = np.cumsum([len(part) for part in parts])
    return ends, np.array([part.mean() for part in parts])


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Moving average over a twentieth of the curve, or five points; shorter at the ends."""
    window = np.ones(min(len(values), max(5, len(values) // 20)))
    count = np.convolve(np.ones(len(values)), window, mode='same')
    return np.convolve(values, window, mode='same') / count
