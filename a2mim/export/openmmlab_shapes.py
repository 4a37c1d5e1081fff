"""Names and shapes of the backbones of MMDetection, MMSegmentation and MMPretrain.

They are written down here from sizes alone, so that an export can be checked where none of these
libraries is installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from a2mim.export.target import Shapes, shapes_of


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
    def of(cls, model: nn.Module) -> 'VitSize':
        """Sizes of a timm ``Beit`` or ``VisionTransformer``."""
        block, patches = model.blocks[0], model.patch_embed
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


def convnext_shapes(depths: Sequence[int], widths: Sequence[int]) -> Shapes:
    """``mmpretrain.ConvNeXt`` with the norm behind its last stage alone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (width,)

    def weight_and_bias(name: str, *shape: int) -> None:
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = shape, shape[:1]

    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        below, side = (3, 4) if i == 0 else (widths[i - 1], 2)
        order = ('1', '0') if i == 0 else ('0', '1')
        norm(f'downsample_layers.{i}.{order[0]}', width if i == 0 else below)
        weight_and_bias(f'downsample_layers.{i}.{order[1]}', width, below, side, side)
        for block in (f'stages.{i}.{j}' for j in range(depth)):
            shapes[f'{block}.gamma'] = (width,)
            weight_and_bias(f'{block}.depthwise_conv', width, 1, 7, 7)
            norm(f'{block}.norm', width)
            weight_and_bias(f'{block}.pointwise_conv1', 4 * width, width)
            weight_and_bias(f'{block}.pointwise_conv2', width, 4 * width)
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
        final_norm: Whether there is a norm behind the last block.
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
