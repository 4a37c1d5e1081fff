"""The visualizer of a run, which costs nothing until something is drawn."""

from functools import cached_property
from typing import Any

from mmengine.visualization import Visualizer as MMEngineVisualizer

from a2mim.registry import VISUALIZERS


class _NoFigure:
    """In the place of a figure until something is drawn."""

    def get_dpi(self) -> None:
        """Mmengine asks for it where it builds a visualizer, and stores it."""


@VISUALIZERS.register_module()
class Visualizer(MMEngineVisualizer):
    """mmengine's, which imports matplotlib where something is drawn, and not where a run starts."""

    def __init__(self, name: str = 'visualizer', image: Any = None, **options: Any) -> None:
        self._started = False
        super().__init__(name, None, **options)
        self._started = True
        if image is not None:
            self.set_image(image)

    def _initialize_fig(self, fig_cfg: dict) -> tuple:
        return super()._initialize_fig(fig_cfg) if self._started else (None, None, None)

    @cached_property
    def _parts(self) -> tuple:
        return self._initialize_fig(self.fig_save_cfg)

    def _keep(self, value: object) -> None:
        """Keep the parts, whatever mmengine's constructor assigns."""

    fig_save_canvas = property(lambda self: self._parts[0], _keep)
    fig_save = property(lambda self: self._parts[1] if self._started else _NoFigure(), _keep)
    ax_save = property(lambda self: self._parts[2], _keep)
    dpi = property(lambda self: self.fig_save.get_dpi(), _keep)


# ``Visualizer.get_current_instance()`` of mmengine finds this one too.
Visualizer._instance_dict = MMEngineVisualizer._instance_dict
