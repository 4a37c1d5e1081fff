"""A flat file in torchvision's names, for ``load_state_dict`` of the same architecture there."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from a2mim.checkpoint import load_file, save_file
from a2mim.export.source import Source
from a2mim.export.target import Check, Target, compare_shapes, rename, shapes_of
from a2mim.export.torchvision_names import TWINS, VIT


class TorchvisionFile(Target):
    """Trunk, and classifier where there is one, under torchvision's names."""

    suffixes = ('.pth', '.safetensors')

    def problem(self, source: Source) -> str | None:
        """Whether torchvision builds this architecture, by name and by every shape."""
        if source.base_name not in TWINS:
            return f'torchvision has no twin of {source.name} ({type(source.model).__name__})'
        with torch.device('meta'):
            report = compare_shapes(shapes_of(_build(source)), _translate(source))
        if report.rate < 1 or report.mismatched:
            return f'{source.name} is not {TWINS[source.base_name][0]} of torchvision: {report}'
        return None

    def write(self, source: Source, path: Path) -> None:
        """Write tensors by name and nothing else."""
        # torchvision saves the indices of relative positions, which timm computes.
        indices = {
            key: tensor
            for key, tensor in _build(source).state_dict().items()
            if key.endswith('relative_position_index')
        }
        save_file({**_translate(source), **indices}, path)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Load it strictly in torchvision; compare logits, or else what a classifier would get."""
        model, state = _build(source).eval(), load_file(path)
        report = compare_shapes({k: tuple(v.shape) for k, v in model.state_dict().items()}, state)
        model.load_state_dict(state)
        ours = source.model if source.num_classes else source.rebuild()
        return Check(f'torchvision {torchvision.__version__}', report, ours(image), model(image))

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """Build, then load; the classifier of a trunk stays new."""
        name, _ = TWINS[source.base_name]
        options = ', '.join(f'{key}={value}' for key, value in _options(source).items())
        strict = '' if source.num_classes else ', strict=False'
        read = 'safetensors.torch.load_file' if path.suffix == '.safetensors' else 'torch.load'
        return (
            f'model = torchvision.models.{name}({options})',
            f"model.load_state_dict({read}('{path}'){strict})",
        )


def _options(source: Source) -> dict[str, int]:
    options = {'num_classes': source.num_classes} if source.num_classes else {}
    if TWINS[source.base_name][1] is VIT:
        options['image_size'] = source.input_shape[1]
    return options


def _build(source: Source) -> nn.Module:
    """Torchvision's model, with as many classes as the source; without any, its classifier goes."""
    name, family = TWINS[source.base_name]
    model = torchvision.models.get_model(name, **_options(source))
    if not source.num_classes:
        model.set_submodule(family.classifier, nn.Identity())
    return model


def _translate(source: Source) -> dict[str, Tensor]:
    """Its weights in torchvision's names and shapes."""
    state = rename(source.model.state_dict(), TWINS[source.base_name][1].rules)
    return {
        key: tensor[:, None, None] if key.endswith('.layer_scale') else tensor
        for key, tensor in state.items()
    }
