"""Figure of class activation maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def draw_activation_maps(
    picture: np.ndarray, titles: Sequence[str], maps: Sequence[np.ndarray]
) -> Figure:
    """The picture (H, W, 3) uint8, and every map over it, from 0 (blue) to 1 (red)."""
    figure = Figure(figsize=(2.6 * (1 + len(maps)) + 0.8, 3.0), layout='constrained')
    panels = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    panels[0].imshow(picture)
    panels[0].set_title('image', fontsize=9)
    height, width = picture.shape[:2]
    for panel, title, found in zip(panels[1:], titles, maps, strict=True):
        panel.imshow(picture)
        # Networks with other image sizes show the same part of it.
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        shown = panel.imshow(found, cmap='jet', alpha=0.5, vmin=0, vmax=1, extent=extent)
        panel.set_title(title, fontsize=9)
    for panel in panels:
        panel.set_axis_off()
    figure.colorbar(shown, ax=panels.tolist(), label='activation, scaled to 0…1')
    return figure
