"""A flat file for ``init_cfg=dict(type='Pretrained')`` of MMDetection and MMSegmentation."""

import importlib
from pathlib import Path

import torch
from torch import Tensor, nn

from a2mim.checkpoint import load_file, save_file
from a2mim.export.openmmlab_twins import Twin, find_twin
from a2mim.export.source import Source
from a2mim.export.target import Check, Target, compare_shapes, shapes_of


class OpenMMLabFile(Target):
    """The trunk under the names of a backbone of one library, or of MMPretrain, which serves both.

    Args:
        library: 'mmdet' or 'mmseg'.
    """

    # mmengine reads no safetensors.
    suffixes = ('.pth',)

    def __init__(self, library: str) -> None:
        self.library = library

    def problem(self, source: Source) -> str | None:
        """Whether one of the backbones has these names and shapes."""
        twin = find_twin(self.library, source)
        if twin is None:
            return f'neither it nor MMPretrain has a backbone like {type(source.model).__name__}'
        report = compare_shapes(twin.shapes, twin.state)
        if report.rate < 1 or report.mismatched:
            return f'{source.name} with {source.options} is not its {twin.kind}: {report}'
        return None

    def write(self, source: Source, path: Path) -> None:
        """Write tensors by name and nothing else."""
        save_file(find_twin(self.library, source).state, path)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Build the backbone with ``init_cfg``, or hold the file against its list of names."""
        twin, state = find_twin(self.library, source), load_file(path)
        package, name = twin.kind.split('.')
        try:
            backbone = getattr(importlib.import_module(f'{package}.models'), name)
        # Without mmcv's compiled operators there is no mmdet; a version it dislikes, it asserts.
        except (ImportError, AssertionError):
            return Check(f'list of names of {twin.kind}', compare_shapes(twin.shapes, state))
        model = _build(backbone, twin, path)
        version = importlib.import_module(package).__version__
        return Check(
            f'{twin.kind} {version}',
            compare_shapes(shapes_of(model), state),
            source.final_map(image),
            model(image)[-1],
        )

    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """Lines of a config."""
        twin = find_twin(self.library, source)
        package, name = twin.kind.split('.')
        start, options = '', {**twin.options, **twin.all_maps}
        lines = [f"init_cfg = dict(type='Pretrained', checkpoint='{path}')"]
        if package != self.library:
            lines.append("custom_imports = dict(imports=['mmpretrain.models'])")
            name = twin.kind
        if name != 'ResNet':
            start = '_delete_=True, '
        given = ', '.join(f'{key}={value!r}' for key, value in options.items())
        model = f'model = dict(backbone=dict({start}type={name!r}, {given}, init_cfg=init_cfg))'
        return (*lines, model)


def _build(backbone: type[nn.Module], twin: Twin, path: Path) -> nn.Module:
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    model = backbone(**twin.options, init_cfg=init_cfg)
    model.init_weights()
    model.eval()  # theirs returns None
    return model
