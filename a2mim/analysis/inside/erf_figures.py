"""Figures of effective receptive fields."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from a2mim.analysis.inside.receptive_field import ReceptiveField

FLOOR = -4.0  # decades below the largest contribution


def draw_receptive_fields(labels: Sequence[str], fields: Sequence[ReceptiveField]) -> Figure:
    """One panel a network: powers of ten of the largest contribution, a cross at the centre."""
    figure = Figure(figsize=(3.0 * len(fields) + 1.0, 3.3), layout='constrained')
    panels = figure.subplots(1, len(fields), squeeze=False)[0]
    for panel, label, field in zip(panels, labels, fields, strict=True):
        height, width = field.contribution.shape
        relative = field.contribution / field.contribution.max()
        shown = panel.imshow(
            np.log10(np.maximum(relative, 10**FLOOR)),
            vmin=FLOOR,
            vmax=0,
            cmap='magma',
            extent=(0, width, height, 0),
        )
        panel.plot(field.centre[1], field.centre[0], '+', color='cyan', markersize=8)
        panel.set_title(f'{label}\n{field.stage}', fontsize=9)
        panel.set_xlabel('pixels')
    panels[0].set_ylabel('pixels')
    figure.colorbar(shown, ax=panels.tolist(), label='log10 of contribution / largest')
    return figure
