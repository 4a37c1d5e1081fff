"""Curves of relative strength over the order."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.interactions.estimate import Estimate


def draw_interactions(
    estimates: Mapping[str, Estimate], orders: Sequence[int], players: int
) -> Figure:
    """J with its interval, one curve for each network that has one.

    Args:
        estimates: By label.
        orders: Sizes of contexts, patches.
        players: n.
    """
    figure = Figure(figsize=(6.4, 4.2), layout='constrained')
    axes = figure.add_subplot()
    rest = players - 2
    share = [order / rest for order in orders]
    for label, found in estimates.items():
        remark, style = _remark(found)
        (line,) = axes.plot(
            share, found.relative, style, marker='o', markersize=3, label=f'{label}{remark}'
        )
        low, high = found.relative_interval
        axes.fill_between(share, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(1, color='grey', linewidth=0.8, linestyle=':')
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f'order: share of the {rest} other patches in the context')
    axes.set_ylabel('relative interaction strength J')
    axes.legend(frameon=False)
    top = axes.secondary_xaxis('top', functions=(lambda x: x * rest, lambda x: x / rest))
    top.set_xlabel('patches')
    return figure


def _remark(found: Estimate) -> tuple[str, str]:
    """What the legend adds to the label, and the style of the line."""
    if np.isnan(found.relative).any():
        return ' (no interactions)', '-'
    if np.isnan(found.relative_interval).any():
        return f' (no interval: {found.interacting} image(s) interact)', '--'
    return '', '-'
