"""A flat file in timm's names, for ``checkpoint_path`` of ``timm.create_model``."""

from pathlib import Path

import timm
import torch
from torch import Tensor

from a2mim.checkpoint import load_file, save_file
from a2mim.export.source import Source
from a2mim.export.target import Check, Target, compare_shapes, shapes_of


class TimmFile(Target):
    """Trunk, and classifier where there is one, as timm's own ``state_dict()``."""

    suffixes = ('.safetensors', '.pth')

    def write(self, source: Source, path: Path) -> None:
        """Write tensors by name and nothing else."""
        save_file(source.model.state_dict(), path)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Let timm build the model and load the file, strictly."""
        model = timm.create_model(source.name, **source.options, checkpoint_path=str(path)).eval()
        report = compare_shapes(shapes_of(model), load_file(path))
        return Check(f'timm {timm.__version__}', report, source.model(image), model(image))

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """Build and load in one call."""
        return 'import timm', f'model = {source.call(checkpoint_path=str(path))}'
