"""Figures of loss surfaces: curves along a direction, contours over two."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.landscape.trajectory import Trajectory

Surface = Mapping[str, np.ndarray]  # ``loss``, and of a classifier ``top1``


def draw_curves(
    steps: np.ndarray, surfaces: Mapping[str, Surface], *, log: bool = False, top: float = 5.0
) -> Figure:
    """Loss (left axis, up to ``top``) and accuracy (right axis) of networks along a direction."""
    figure = Figure(figsize=(5.5, 3.5 + 0.2 * len(surfaces)), layout='constrained')
    axes = figure.add_subplot(xlabel='step along the direction', ylabel='loss')
    right = None
    for number, (label, surface) in enumerate(surfaces.items()):
        style = dict(color=f'C{number}')
        axes.plot(steps, surface['loss'], marker='.', label=f'{label}, loss', **style)
        if 'top1' in surface:
            right = right or axes.twinx()
            right.plot(steps, surface['top1'], linestyle='--', label=f'{label}, top-1', **style)
    if log:
        axes.set_yscale('log')
    else:
        lowest = min(float(np.nanmin(surface['loss'])) for surface in surfaces.values())
        axes.set_ylim(0, max(top, 1.1 * lowest))
    lines = axes.get_lines()
    if right is not None:
        right.set(ylabel='top-1 accuracy in %', ylim=(0, 100))
        lines = [line for pair in zip(lines, right.get_lines(), strict=True) for line in pair]
    figure.legend(handles=lines, loc='outside upper center', ncols=2, fontsize=8)
    return figure


def draw_contours(
    steps: tuple[np.ndarray, np.ndarray], surfaces: Mapping[str, Surface], levels: np.ndarray
) -> Figure:
    """Contours of the loss (X, Y), a panel for each network."""
    figure = Figure(figsize=(4.2 * len(surfaces) + 0.8, 4.2), layout='constrained')
    panels = figure.subplots(1, len(surfaces), squeeze=False, sharey=True)[0]
    for panel, (label, surface) in zip(panels, surfaces.items(), strict=True):
        lines = panel.contour(*steps, surface['loss'].T, levels=levels)
        panel.set_title(label, fontsize=9)
        panel.set_xlabel('step along the first direction')
    panels[0].set_ylabel('step along the second direction')
    figure.colorbar(lines, ax=panels.tolist(), label='loss')
    return figure


def draw_trajectory(
    path: Trajectory,
    steps: tuple[np.ndarray, np.ndarray] | None,
    surface: Surface | None,
    levels: np.ndarray,
) -> Figure:
    """The path of a run, over the contours of its loss (X, Y) where they were measured."""
    figure = Figure(figsize=(5, 4.2), layout='constrained')
    names = [
        f'step along the {which} direction ({100 * share:.0f} % of variance)'
        for which, share in zip(('first', 'second'), path.explained, strict=True)
    ]
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    if surface is not None:
        lines = axes.contour(*steps, surface['loss'].T, levels=levels)
        figure.colorbar(lines, ax=axes, label='loss')
    axes.plot(*path.points.T, color='C3', marker='.', label='checkpoints')
    axes.plot(0, 0, color='black', marker='*', linestyle='', label='final weights')
    axes.legend()
    return figure
