"""A flat file in torchvision's names, for ``load_state_dict`` of the same architecture there."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from a2mim.weights.export.target import Check, Source, Target, shapes_of
from a2mim.weights.families import FAMILIES, Family
from a2mim.weights.files import save_file
from a2mim.weights.fit import compare
from a2mim.weights.safe_load import load_file

RESNETS = tuple(n for n in torchvision.models.list_models(torchvision.models) if 'resne' in n)
CONVNEXT, SWIN, VIT = (f'torchvision {name}' for name in ('convnext', 'swin', 'vision_transformer'))
# Name in timm, without its tag: name in torchvision, family.
TWINS = {
    **{name: (name, 'resnet') for name in RESNETS},
    **{f'convnext_{size}': (f'convnext_{size}', CONVNEXT) for size in ('tiny', 'small', 'base')},
    **{
        f'swin_{size}_patch4_window7_224': (f'swin_{size[0]}', SWIN)
        for size in ('tiny', 'small', 'base')
    },
    'vit_base_patch16_224': ('vit_b_16', VIT),
    'vit_base_patch32_224': ('vit_b_32', VIT),
    'vit_large_patch16_224': ('vit_l_16', VIT),
    'vit_large_patch32_224': ('vit_l_32', VIT),
    'vit_huge_patch14_224': ('vit_h_14', VIT),
    'deit_base_patch16_224': ('vit_b_16', VIT),
}


class TorchvisionFile(Target):
    """Backbone, and classifier where there is one, under torchvision's names."""

    suffixes = ('.pth', '.safetensors')

    def problem(self, source: Source) -> str | None:
        """Whether torchvision builds this architecture, by name and by every shape."""
        if source.base_name not in TWINS:
            return f'torchvision has no twin of {source.name} ({type(source.model).__name__})'
        with torch.device('meta'):
            report = compare(shapes_of(_build(source)), _translate(source))
        if not report.complete:
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
        report = compare(model, state)
        model.load_state_dict(state)
        ours = source.model if source.num_classes else source.rebuild()
        return Check(f'torchvision {torchvision.__version__}', report, ours(image), model(image))

    def usage(self, source: Source, path: Path) -> tuple[str, str]:
        """Build, then load; the classifier of a backbone keeps its random weights."""
        options = ', '.join(f'{key}={value}' for key, value in _options(source).items())
        strict = '' if source.num_classes else ', strict=False'
        read = 'safetensors.torch.load_file' if path.suffix == '.safetensors' else 'torch.load'
        return (
            f'model = torchvision.models.{TWINS[source.base_name][0]}({options})',
            f"model.load_state_dict({read}('{path}'){strict})",
        )


def _family(source: Source) -> Family:
    return FAMILIES[TWINS[source.base_name][1]]


def _options(source: Source) -> dict[str, int]:
    options = {'num_classes': source.num_classes} if source.num_classes else {}
    if TWINS[source.base_name][1] == VIT:
        options['image_size'] = source.input_shape[1]
    return options


def _build(source: Source) -> nn.Module:
    """Torchvision's model, with as many classes as the source; without any, its classifier goes."""
    model = torchvision.models.get_model(TWINS[source.base_name][0], **_options(source))
    if not source.num_classes:
        classifier = source.model.pretrained_cfg['classifier']
        model.set_submodule(_family(source).their_name(f'{classifier}.')[:-1], nn.Identity())
    return model


def _translate(source: Source) -> dict[str, Tensor]:
    """Its weights in torchvision's names and shapes."""
    return _family(source).from_timm(source.model.state_dict())
