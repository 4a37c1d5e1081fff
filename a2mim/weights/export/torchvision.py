"""A flat file in torchvision's names, for ``load_state_dict`` of the same architecture there."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from a2mim.weights.export.target import Check, Source, Target, compare_shapes, rename, shapes_of
from a2mim.weights.files import save_file
from a2mim.weights.names import Rules
from a2mim.weights.safe_load import load_file

# [torchvision_names]
# timm's names in torchvision, for the architectures that both have.


@dataclass(frozen=True)
class Family:
    """Rules for the names of the weights, and the module that is torchvision's classifier."""

    rules: Rules
    classifier: str


# torchvision keeps stages and what stands before each of them in one list.
CONVNEXT = Family(
    (
        (r'^stem\.', 'features.0.'),
        (r'^head\.norm\.', 'classifier.0.'),
        (r'^head\.fc\.', 'classifier.2.'),
        *((rf'^stages\.{i}\.downsample\.', f'features.{2 * i}.') for i in (1, 2, 3)),
        *((rf'^stages\.{i}\.blocks\.', f'features.{2 * i + 1}.') for i in range(4)),
        (r'\.conv_dw\.', '.block.0.'),
        (r'\.norm\.', '.block.2.'),
        (r'\.mlp\.fc1\.', '.block.3.'),
        (r'\.mlp\.fc2\.', '.block.5.'),
        (r'\.gamma$', '.layer_scale'),
    ),
    'classifier.2',
)
SWIN = Family(
    (
        (r'^patch_embed\.proj\.', 'features.0.0.'),
        (r'^patch_embed\.norm\.', 'features.0.2.'),
        (r'^head\.fc\.', 'head.'),
        *((rf'^layers\.{i}\.downsample\.', f'features.{2 * i}.') for i in (1, 2, 3)),
        *((rf'^layers\.{i}\.blocks\.', f'features.{2 * i + 1}.') for i in range(4)),
        (r'\.mlp\.fc1\.', '.mlp.0.'),
        (r'\.mlp\.fc2\.', '.mlp.3.'),
    ),
    'head',
)
VIT = Family(
    (
        (r'^cls_token$', 'class_token'),
        (r'^pos_embed$', 'encoder.pos_embedding'),
        (r'^patch_embed\.proj\.', 'conv_proj.'),
        (r'^norm\.', 'encoder.ln.'),
        (r'^head\.', 'heads.head.'),
        (r'^blocks\.(\d+)\.', r'encoder.layers.encoder_layer_\1.'),
        (r'\.norm(\d)\.', r'.ln_\1.'),
        (r'\.attn\.qkv\.', '.self_attention.in_proj_'),
        (r'\.attn\.proj\.', '.self_attention.out_proj.'),
        (r'\.mlp\.fc1\.', '.mlp.0.'),
        (r'\.mlp\.fc2\.', '.mlp.3.'),
    ),
    'heads.head',
)
RESNET = Family((), 'fc')
RESNETS = (
    'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'resnext50_32x4d',
    'resnext101_32x8d', 'resnext101_64x4d', 'wide_resnet50_2', 'wide_resnet101_2',
)  # fmt: skip
# Name in timm, without its tag: name in torchvision, family.
TWINS: dict[str, tuple[str, Family]] = {
    **{name: (name, RESNET) for name in RESNETS},
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
