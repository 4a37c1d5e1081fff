"""Which backbone of MMDetection, MMSegmentation or MMPretrain is the architecture of a trunk."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from a2mim.checkpoint.key_maps import Rules
from a2mim.export.openmmlab_shapes import VitSize, convnext_shapes, resnet_shapes, vit_shapes
from a2mim.export.source import Source
from a2mim.export.target import Shapes, rename

RESNETS = ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152')
CONVNEXT: Rules = (
    (r'^stem\.', 'downsample_layers.0.'),
    (r'^head\.norm\.', 'norm3.'),
    (r'^stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
    (r'^stages\.(\d)\.blocks\.', r'stages.\1.'),
    (r'\.conv_dw\.', '.depthwise_conv.'),
    (r'\.mlp\.fc(\d)\.', r'.pointwise_conv\1.'),
)
VIT: Rules = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^norm\.', 'ln1.'),
    (r'^blocks\.', 'layers.'),
    (r'\.norm(\d)\.', r'.ln\1.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)
# The attention of mmseg's VisionTransformer is torch's.
TORCH_ATTENTION: Rules = (
    (r'\.attn\.qkv\.', '.attn.attn.in_proj_'),
    (r'\.attn\.proj\.', '.attn.attn.out_proj.'),
)


@dataclass(frozen=True)
class Twin:
    """A backbone of another library.

    Attributes:
        kind: Package and class, for example ``mmseg.MAE``.
        options: Of the class, for the last feature map alone.
        all_maps: What to add or change for the maps that a detector or a segmentor takes.
        shapes: Names and shapes of its weights.
        state: The weights of the trunk in these names.
    """

    kind: str
    options: dict[str, object]
    shapes: Shapes
    state: dict[str, Tensor]
    all_maps: dict[str, object] = field(default_factory=dict)


def find_twin(library: str, source: Source) -> Twin | None:
    """The twin in ``library``, 'mmdet' or 'mmseg', or in MMPretrain; None if there is none."""
    if source.base_name in RESNETS:
        options = {'depth': int(source.base_name.removeprefix('resnet'))}
        shapes = resnet_shapes(source.base_name)
        return Twin(f'{library}.ResNet', options, shapes, source.trunk_state())
    find = {'ConvNeXt': _convnext, 'Beit': _vit, 'VisionTransformer': _vit}
    name = type(source.model).__name__
    return find[name](library, source) if name in find else None


def _convnext(_library: str, source: Source) -> Twin:
    depths = [len(stage.blocks) for stage in source.model.stages]
    widths = [info['num_chs'] for info in source.model.feature_info]
    return Twin(
        'mmpretrain.ConvNeXt',
        dict(
            arch=dict(depths=depths, channels=widths), out_indices=[3], gap_before_final_norm=False
        ),
        convnext_shapes(depths, widths),
        rename(source.trunk_state(), CONVNEXT),
        dict(out_indices=[0, 1, 2, 3]),
    )


def _vit(library: str, source: Source) -> Twin:
    model, size = source.model, VitSize.of(source.model)
    tables = getattr(model.blocks[0].attn, 'relative_position_bias_table', None) is not None
    absolute = model.pos_embed is not None
    final_norm = hasattr(model.norm, 'weight')
    kind = _vit_kind(library, tables, absolute)
    # A norm behind the mean over patches belongs to a classifier.
    state = {k: v for k, v in source.trunk_state().items() if not k.startswith('fc_norm.')}
    if kind == 'mmseg.MAE':
        state = _joint_bias(state)
    rules = (*VIT, *TORCH_ATTENTION) if kind == 'mmseg.VisionTransformer' else VIT
    options = dict(
        img_size=source.input_shape[1:],
        patch_size=size.patch,
        in_channels=size.channels,
        final_norm=final_norm,
        norm_cfg=dict(type='LN', eps=model.blocks[0].norm1.eps),
        **_vit_sizes(kind, size, absolute),
    )
    return Twin(
        kind,
        options,
        vit_shapes(kind, size, absolute=absolute, final_norm=final_norm),
        rename(state, rules),
        dict(out_indices=_four_blocks(size.depth)),
    )


def _vit_kind(library: str, tables: bool, absolute: bool) -> str:
    if library == 'mmdet':
        return 'mmpretrain.BEiTViT' if tables else 'mmpretrain.VisionTransformer'
    if tables:
        # mmseg's MAE has absolute positions and relative tables, its BEiT the tables alone.
        return 'mmseg.MAE' if absolute else 'mmseg.BEiT'
    return 'mmseg.VisionTransformer'


def _vit_sizes(kind: str, size: VitSize, absolute: bool) -> dict[str, object]:
    """What the class is told about its sizes, in its own words."""
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
