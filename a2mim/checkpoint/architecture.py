"""What a state in timm's names says about its model: family, depth, width; and why two differ."""

import re
from collections.abc import Mapping

from torch import Tensor

# Key that tells a family, the family, and where timm keeps its classifier.
ARCHITECTURES = (
    ('layer1.0.conv1.weight', 'ResNet', 'fc'),
    ('stages.0.blocks.0.conv_dw.weight', 'ConvNeXt', 'head.fc'),
    ('layers.0.blocks.0.attn.relative_position_bias_table', 'Swin', 'head.fc'),
    ('blocks.0.attn.relative_position_bias_table', 'ViT with relative positions', 'head'),
    ('rel_pos_bias.relative_position_bias_table', 'ViT with relative positions', 'head'),
    ('blocks.0.attn.qkv.weight', 'ViT without relative positions', 'head'),
)
BLOCK = re.compile(r'^(layer\d+\.|(?:(?:stages|layers)\.\d+\.)?blocks\.)(\d+)\.')
# The first layer of each family.
FIRST = ('conv1.weight', 'stem.0.weight', 'patch_embed.proj.weight')


def architecture(state: Mapping[str, Tensor]) -> str | None:
    """The family in words; None where it is none of those that are translated."""
    return next((name for marker, name, _ in ARCHITECTURES if marker in state), None)


def classifier_of(state: Mapping[str, Tensor]) -> str | None:
    """Path of the classifier in timm's model of that family."""
    return next((path for marker, _, path in ARCHITECTURES if marker in state), None)


def depth(state: Mapping[str, Tensor]) -> str:
    """Number of blocks, as ``'3+4+6+3'`` where there are several stages."""
    blocks: dict[str, set[str]] = {}
    for match in filter(None, map(BLOCK.match, state)):
        blocks.setdefault(match[1], set()).add(match[2])
    return '+'.join(str(len(blocks[stage])) for stage in sorted(blocks))


def difference(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Why weights ``state`` are not those of a model with ``own``; None where nothing says so."""
    found, expected = architecture(state), architecture(own)
    if found != expected and expected is not None:
        keys = ', '.join(list(state)[:3])
        what = f'a {found}' if found else f'of no family that is translated (its keys: {keys}, …)'
        return f'the file is {what}, the model a {expected}'
    blocks, own_blocks = depth(state), depth(own)
    if blocks != own_blocks:
        return f'the file has {blocks or "no"} blocks, the model {own_blocks or "none"}'
    for key in FIRST:
        if key in state and key in own and len(state[key]) != len(own[key]):
            return f'the file is {len(state[key])} wide, the model {len(own[key])}'
    return None
