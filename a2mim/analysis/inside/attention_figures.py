"""Figures of attention: distance in depth, and maps over images.

Axes: N images, (h, w) patches, (H, W) pixels.
"""

from collections.abc import Mapping, Sequence

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
    panels[0].set_ylim(0, 1.05 * max(summary.distances.max() for summary in summaries))
    panels[-1].legend(fontsize=8)
    return figure


def draw_attention_maps(
    labels: Sequence[str], maps: Sequence[np.ndarray], pictures: Mapping[str, np.ndarray]
) -> Figure:
    """One row an image: the picture, and the map of every network.

    Colours go from 0 to the largest weight of each panel, which its title states.

    Args:
        labels: Of the networks.
        maps: (N, h, w) of each network, mean over heads.
        pictures: N of (H, W, 3) uint8, by name.
    """
    number = len(pictures)
    figure = Figure(figsize=(2.0 * (1 + len(labels)), 2.2 * number + 0.3), layout='constrained')
    panels = figure.subplots(number, 1 + len(labels), squeeze=False)
    for row, (name, picture) in zip(panels, pictures.items(), strict=True):
        row[0].imshow(picture)
        row[0].set_title(name, fontsize=8)
    for column, (label, weights) in enumerate(zip(labels, maps, strict=True), 1):
        for row, one in zip(panels, weights, strict=True):
            row[column].imshow(one, vmin=0, vmax=one.max(), cmap='viridis')
            row[column].set_title(f'{label}\nlargest {one.max():.3f}', fontsize=8)
    for panel in panels.ravel():
        panel.set_axis_off()
    return figure
