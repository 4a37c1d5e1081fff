"""Figures of attention: distance in depth, and maps over images.

Axes: N images, (H, W) pixels.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.inside.attention_measure import AttentionSummary


def draw_attention_distance(labels: Sequence[str], summaries: Sequence[AttentionSummary]) -> Figure:
    """One panel a network: a dot for every head, a line for their mean."""
    figure = Figure(figsize=(3.2 * len(labels), 3.0), layout='constrained')
    panels = figure.subplots(1, len(labels), squeeze=False, sharey=True)[0]
    for panel, label, summary in zip(panels, labels, summaries, strict=True):
        depth, heads = summary.distances.shape
        numbers = np.arange(depth)
        dots = np.repeat(numbers, heads)
        panel.plot(dots, summary.distances.ravel(), 'o', markersize=4, alpha=0.6, label='head')
        panel.plot(numbers, summary.distances.mean(axis=1), color='black', label='mean')
        panel.set_title(label, fontsize=9)
        panel.set_xlabel('block')
        panel.set_xticks(numbers[:: max(depth // 6, 1)])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel('attention distance in pixels')
    panels[0].set_ylim(bottom=0)
    panels[-1].legend(fontsize=8)
    return figure


def draw_attention_maps(
    labels: Sequence[str],
    summaries: Sequence[AttentionSummary],
    pictures: np.ndarray,
    names: Sequence[str],
) -> Figure:
    """One row an image: the picture, and the mean over heads of every network.

    Colours go from 0 to the largest weight of each panel, which its title states.

    Args:
        labels: Of the networks.
        summaries: Of the networks.
        pictures: (N, H, W, 3) uint8, the first N images.
        names: Of the images.
    """
    number = len(pictures)
    figure = Figure(figsize=(2.0 * (1 + len(labels)), 2.2 * number + 0.3), layout='constrained')
    panels = figure.subplots(number, 1 + len(labels), squeeze=False)
    for row, picture, name in zip(panels, pictures, names, strict=True):
        row[0].imshow(picture)
        row[0].set_title(name, fontsize=8)
    for column, (label, summary) in enumerate(zip(labels, summaries, strict=True), 1):
        for row, weights in zip(panels, summary.maps[:number].mean(axis=1), strict=True):
            row[column].imshow(weights, vmin=0, vmax=weights.max(), cmap='viridis')
            row[column].set_title(f'{label}\nlargest {weights.max():.3f}', fontsize=8)
    for panel in panels.ravel():
        panel.set_axis_off()
    return figure
