"""A flat file for ``init_cfg=dict(type='Pretrained')`` of MMDetection and MMSegmentation.

Names and shapes of their backbones and MMPretrain's are written down here from sizes alone, so that
an export can be checked where none of these libraries is installed.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from mmengine.model import BaseModule
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from a2mim.weights.export.target import (
    Check,
    Source,
    Target,
    UnreadError,
    other_library,
    shapes_of,
)
from a2mim.weights.export.torchvision import RESNETS
from a2mim.weights.families import FAMILIES
from a2mim.weights.files import save_file
from a2mim.weights.fit import Shapes, compare
from a2mim.weights.safe_load import load_file


@dataclass(frozen=True)
class VitSize:
    """Sizes of a vision transformer: C, blocks, heads, hidden units, patch, grid, channels."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    grid: tuple[int, int]
    channels: int

    @classmethod
    def of(cls, model: Beit | VisionTransformer) -> 'VitSize':
        """Sizes of a timm network."""
        block, patches = cast(Any, model.blocks[0]), cast(Any, model.patch_embed)
        return cls(
            width=model.embed_dim,
            depth=len(model.blocks),
            heads=block.attn.num_heads,
            hidden=block.mlp.fc1.out_features,
            patch=patches.patch_size[0],
            grid=tuple(patches.grid_size),
            channels=patches.proj.in_channels,
        )


def resnet_shapes(name: str) -> Shapes:
    """A ResNet: all of these libraries keep torchvision's names."""
    with torch.device('meta'):
        shapes = shapes_of(torchvision.models.get_model(name))
    return {key: shape for key, shape in shapes.items() if not key.startswith('fc.')}


def convnext_shapes(depths: Sequence[int], widths: Sequence[int], *, linear: bool = True) -> Shapes:
    """``mmpretrain.ConvNeXt`` with a norm after its last stage alone.

    Its pointwise layers are linear ones, or else convolutions.
    """
    side = () if linear else (1, 1)
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (width,)

    def weight_and_bias(name: str, *shape: int) -> None:
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = shape, shape[:1]

    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        below, patch = (3, 4) if i == 0 else (widths[i - 1], 2)
        order = ('1', '0') if i == 0 else ('0', '1')
        norm(f'downsample_layers.{i}.{order[0]}', width if i == 0 else below)
        weight_and_bias(f'downsample_layers.{i}.{order[1]}', width, below, patch, patch)
        for block in (f'stages.{i}.{j}' for j in range(depth)):
            shapes[f'{block}.gamma'] = (width,)
            weight_and_bias(f'{block}.depthwise_conv', width, 1, 7, 7)
            norm(f'{block}.norm', width)
            weight_and_bias(f'{block}.pointwise_conv1', 4 * width, width, *side)
            weight_and_bias(f'{block}.pointwise_conv2', width, 4 * width, *side)
    norm('norm3', widths[-1])
    return shapes


def attention_shapes(kind: str, size: VitSize) -> Shapes:
    """The attention of one block of the class ``kind``."""
    width, (rows, columns) = size.width, size.grid
    table = {
        'relative_position_bias_table': (
            (2 * rows - 1) * (2 * columns - 1) + 3,
            size.heads,
        )
    }
    qkv = {'qkv.weight': (3 * width, width)}
    proj = {'proj.weight': (width, width), 'proj.bias': (width,)}
    separate = {'q_bias': (width,), 'v_bias': (width,)}
    joint = {'qkv.bias': (3 * width,)}
    return {
        'mmseg.MAE': {**qkv, **joint, **proj, **table},
        'mmseg.BEiT': {**qkv, **separate, **proj, **table},
        'mmseg.VisionTransformer': {
            'attn.in_proj_weight': (3 * width, width),
            'attn.in_proj_bias': (3 * width,),
            'attn.out_proj.weight': (width, width),
            'attn.out_proj.bias': (width,),
        },
        'mmpretrain.BEiTViT': {**qkv, **separate, **proj, **table},
        'mmpretrain.VisionTransformer': {**qkv, **joint, **proj},
    }[kind]


def vit_shapes(kind: str, size: VitSize, *, absolute: bool, final_norm: bool) -> Shapes:
    """A vision transformer of the class ``kind``.

    Args:
        kind: Key of ``attention_shapes``.
        size: Its sizes.
        absolute: Whether it has absolute positions.
        final_norm: Whether there is a norm after the last block.
    """
    width, hidden = size.width, size.hidden
    block = {
        **{f'ln{i}.{name}': (width,) for i in (1, 2) for name in ('weight', 'bias')},
        **{f'attn.{key}': shape for key, shape in attention_shapes(kind, size).items()},
        'ffn.layers.0.0.weight': (hidden, width),
        'ffn.layers.0.0.bias': (hidden,),
        'ffn.layers.1.weight': (width, hidden),
        'ffn.layers.1.bias': (width,),
    }
    if not kind.endswith('VisionTransformer'):
        block.update(gamma_1=(width,), gamma_2=(width,))
    tokens = size.grid[0] * size.grid[1] + 1
    return {
        'cls_token': (1, 1, width),
        **({'pos_embed': (1, tokens, width)} if absolute else {}),
        'patch_embed.projection.weight': (width, size.channels, size.patch, size.patch),
        'patch_embed.projection.bias': (width,),
        **{f'layers.{i}.{key}': shape for i in range(size.depth) for key, shape in block.items()},
        **({'ln1.weight': (width,), 'ln1.bias': (width,)} if final_norm else {}),
    }


@dataclass(frozen=True)
class Equivalent:
    """A backbone of another library.

    Attributes:
        kind: Package and class, for example ``mmseg.MAE``.
        options: Of the class, for the last feature map alone.
        shapes: Names and shapes of its weights.
        state: The weights of the backbone in these names.
        all_maps: What to add or change for the maps that a detector or a segmentor takes.
    """

    kind: str
    options: dict[str, Any]
    shapes: Shapes
    state: dict[str, Tensor]
    all_maps: dict[str, Any] = field(default_factory=dict)


def find_equivalent(library: str, source: Source) -> Equivalent | None:
    """The twin in ``library``, see ``OpenMMLabFile``, or in MMPretrain; None if there is none."""
    depth = source.base_name.removeprefix('resnet')
    if source.base_name in RESNETS and depth.isdigit():
        shapes = resnet_shapes(source.base_name)
        return Equivalent(
            f'{library}.ResNet', {'depth': int(depth)}, shapes, source.backbone_state()
        )
    if isinstance(source.model, ConvNeXt):
        return _convnext(source.model, source.backbone_state())
    if isinstance(source.model, Beit | VisionTransformer):
        return _vit(library, source, source.model)
    return None


def _convnext(model: ConvNeXt, state: dict[str, Tensor]) -> Equivalent:
    depths = [len(cast(Any, stage).blocks) for stage in model.stages]
    widths = [info['num_chs'] for info in model.feature_info]
    linear = not cast(Any, model.stages[0]).blocks[0].use_conv_mlp
    pointwise = {} if linear else {'linear_pw_conv': False}
    return Equivalent(
        'mmpretrain.ConvNeXt',
        dict(
            arch=dict(depths=depths, channels=widths),
            out_indices=[3],
            gap_before_final_norm=False,
            **pointwise,
        ),
        convnext_shapes(depths, widths, linear=linear),
        FAMILIES['convnext'].from_timm(state),
        dict(out_indices=[0, 1, 2, 3]),
    )


def _vit(library: str, source: Source, model: Beit | VisionTransformer) -> Equivalent:
    size, block = VitSize.of(model), cast(Any, model.blocks[0])
    tables = getattr(block.attn, 'relative_position_bias_table', None) is not None
    absolute = model.pos_embed is not None
    final_norm = hasattr(model.norm, 'weight')
    kind = _vit_kind(library, tables, absolute)
    # A norm after the mean over patches belongs to a classifier.
    state = {k: v for k, v in source.backbone_state().items() if not k.startswith('fc_norm.')}
    if kind == 'mmseg.MAE':
        state = _joint_bias(state)
    family = 'mmseg vision_transformer' if kind == 'mmseg.VisionTransformer' else 'beit'
    options = dict(
        img_size=source.input_shape[1:],
        patch_size=size.patch,
        in_channels=size.channels,
        final_norm=final_norm,
        norm_cfg=dict(type='LN', eps=block.norm1.eps),
        **_vit_sizes(kind, size, absolute),
    )
    return Equivalent(
        kind,
        options,
        vit_shapes(kind, size, absolute=absolute, final_norm=final_norm),
        FAMILIES[family].from_timm(state),
        dict(out_indices=_four_blocks(size.depth)),
    )


def _vit_kind(library: str, tables: bool, absolute: bool) -> str:
    if library != 'mmseg':
        return 'mmpretrain.BEiTViT' if tables else 'mmpretrain.VisionTransformer'
    if tables:
        # mmseg's MAE has absolute positions and relative tables, its BEiT the tables alone.
        return 'mmseg.MAE' if absolute else 'mmseg.BEiT'
    return 'mmseg.VisionTransformer'


def _vit_sizes(kind: str, size: VitSize, absolute: bool) -> dict[str, Any]:
    """Sizes as options of the class."""
    common = dict(embed_dims=size.width, num_layers=size.depth, num_heads=size.heads)
    if kind.startswith('mmseg.'):
        patch_bias = {'patch_bias': True} if kind == 'mmseg.VisionTransformer' else {}
        return {**common, 'mlp_ratio': size.hidden // size.width, **patch_bias}
    positions = {'use_abs_pos_emb': absolute} if kind == 'mmpretrain.BEiTViT' else {}
    arch = {**common, 'feedforward_channels': size.hidden}
    return {'arch': arch, 'out_type': 'featmap', **positions}


def _joint_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One bias for queries, keys and values, that of the keys zero, in place of two."""
    joint = {}
    for key, tensor in state.items():
        if key.endswith('.q_bias'):
            values = state[key.replace('.q_bias', '.v_bias')]
            name = key.replace('.q_bias', '.qkv.bias')
            joint[name] = torch.cat([tensor, torch.zeros_like(tensor), values])
        elif not key.endswith('.v_bias'):
            joint[key] = tensor
    return joint


def _four_blocks(depth: int) -> list[int]:
    """A third, half, two thirds and all of the blocks, as published for 12 of them: 3, 5, 7, 11."""
    return sorted({max(part - 1, 0) for part in (depth // 3, depth // 2, 2 * depth // 3, depth)})


class OpenMMLabFile(Target):
    """The backbone under the names of one library, or of MMPretrain, which serves both.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
    """

    # mmengine reads no safetensors.
    suffixes = ('.pth',)

    def __init__(self, library: str) -> None:
        self.library = library

    def problem(self, source: Source) -> str | None:
        """Whether one of the backbones has these names and shapes."""
        twin = find_equivalent(self.library, source)
        if twin is None:
            return f'neither it nor MMPretrain has a backbone like {type(source.model).__name__}'
        report = compare(twin.shapes, twin.state)
        if not report.complete:
            return f'{source.name} with {source.options} is not its {twin.kind}: {report}'
        return None

    def write(self, source: Source, path: Path) -> None:
        """Write tensors by name and nothing else."""
        save_file(self._twin(source).state, path)

    @torch.no_grad()
    def read_back(self, source: Source, path: Path, image: Tensor) -> Check:
        """Build the backbone with ``init_cfg``, or compare the file with its list of names."""
        twin, state = self._twin(source), load_file(path)
        package, name = twin.kind.split('.')
        try:
            with other_library(package):
                backbone = getattr(importlib.import_module(f'{package}.models'), name)
                model = _build(backbone, twin, path)
                features = model(image)[-1]
                version = importlib.import_module(package).__version__
        except UnreadError as error:
            report = compare(twin.shapes, state)
            return Check(f'list of names of {twin.kind}', report, problem=str(error))
        return Check(
            f'{twin.kind} {version}',
            compare(shapes_of(model), state),
            source.final_map(image),
            features,
        )

    def usage(self, source: Source, path: Path) -> tuple[str, ...]:
        """Lines of a config."""
        twin = self._twin(source)
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

    def _twin(self, source: Source) -> Equivalent:
        twin = find_equivalent(self.library, source)
        if twin is None:
            raise ValueError(self.problem(source))
        return twin


def _build(backbone: type[BaseModule], twin: Equivalent, path: Path) -> nn.Module:
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    model = backbone(**twin.options, init_cfg=init_cfg)
    model.init_weights()
    model.eval()  # theirs returns None
    return model
