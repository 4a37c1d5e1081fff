"""Figures of a loss surface: curves along a direction, contours over two."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.landscape.trajectory import Trajectory


def draw_curve(
    steps: np.ndarray, surface: Mapping[str, np.ndarray], *, log: bool = False, top: float = 5.0
) -> Figure:
    """Loss (left axis, up to ``top``) and accuracy (right axis) along a direction."""
    figure = Figure(figsize=(5.5, 3.5), layout='constrained')
    axes = figure.add_subplot(xlabel='step along the direction', ylabel='loss')
    axes.plot(steps, surface['loss'], color='C0', marker='.', label='loss')
    if log:
        axes.set_yscale('log')
    else:
        axes.set_ylim(0, max(top, 1.1 * float(np.nanmin(surface['loss']))))
    lines = axes.get_lines()
    if 'top1' in surface:
        right = axes.twinx()
        right.set(ylabel='top-1 accuracy in %', ylim=(0, 100))
        right.plot(steps, surface['top1'], color='C3', linestyle='--', label='top-1')
        lines = [*lines, *right.get_lines()]
    figure.legend(handles=lines, loc='outside upper center', ncols=2)
    return figure


def draw_contours(
    steps: tuple[np.ndarray, np.ndarray],
    loss: np.ndarray | None,
    levels: np.ndarray,
    trajectory: Trajectory | None = None,
) -> Figure:
    """Contours of the loss (X, Y), the path of a run, or both."""
    figure = Figure(figsize=(5, 4.2), layout='constrained')
    names = ['step along the first direction', 'step along the second direction']
    if trajectory is not None:
        share = 100 * trajectory.explained
        names = [
            f'{name} ({part:.0f} % of variance)' for name, part in zip(names, share, strict=True)
        ]
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    if loss is not None:
        lines = axes.contour(*steps, loss.T, levels=levels)
        figure.colorbar(lines, ax=axes, label='loss')
    if trajectory is not None:
        axes.plot(*trajectory.points.T, color='C3', marker='.', label='checkpoints')
        axes.plot(0, 0, color='black', marker='*', linestyle='', label='final weights')
        axes.legend()
    return figure
