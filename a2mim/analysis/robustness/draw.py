"""Figure of robustness: one panel for each change, one line for each network."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

COLUMNS = 4


def draw_robustness(
    curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], axis: str, measure: str
) -> Figure:
    """Mean score over images, by change.

    Args:
        curves: By label of the network, what ``robustness_curves`` returns.
        axis: Name of what changes, with its unit.
        measure: ``'accuracy'`` or ``'similarity'``.
    """
    names = list(next(iter(curves.values())))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(5.0, 2.7 * columns), 2.5 * rows + 0.7), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for name, panel in zip(names, panels.flat, strict=False):
        for label, own in curves.items():
            values, scores = own[name]
            panel.plot(values, scores.mean(axis=1), marker='.', label=label)
        panel.set_title(name.replace('_', ' '), fontsize=10)
    figure.supxlabel(axis, fontsize=10)
    unit = 'top-1 accuracy in %' if measure == 'accuracy' else 'cosine similarity'
    figure.supylabel(unit, fontsize=10)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc='outside upper center', ncols=3)
    return figure
