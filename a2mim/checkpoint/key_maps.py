"""Parameter names of the published system, OpenMixup 0.2.10, as timm calls them.

ResNet names agree. The published ViT is timm's ``Beit`` where it has relative position tables and
``VisionTransformer`` where it has none. Every rule below is a regular expression and its
replacement; rules apply in order, each to what the ones before it made.
"""

import re
from dataclasses import dataclass

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

CONVNEXT: Rules = (
    (r'^downsample_layers\.0\.', 'stem.'),
    (r'^downsample_layers\.(\d)\.', r'stages.\1.downsample.'),
    (r'^stages\.(\d)\.(\d+)\.', r'stages.\1.blocks.\2.'),
    (r'\.depthwise_conv\.', '.conv_dw.'),
    (r'\.pointwise_conv(\d)\.', r'.mlp.fc\1.'),
    (r'^norm3\.', 'head.norm.'),
)
BEIT: Rules = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.', 'blocks.'),
    (r'^ln1\.', 'norm.'),
    (r'\.ln(\d)\.', r'.norm\1.'),
    (r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.fc2.'),
)
VISION_TRANSFORMER: Rules = (*BEIT, (r'\.gamma_(\d)$', r'.ls\1.gamma'))


@dataclass(frozen=True)
class Family:
    """One published family: how to tell it, rename it, and where timm keeps its classifier."""

    marker: str
    rules: Rules
    classifier: str


# In this order: the marker of the third is in the files of the second too.
FAMILIES = {
    'convnext': Family('downsample_layers.0.0.weight', CONVNEXT, 'head.fc'),
    'beit': Family('layers.0.attn.relative_position_bias_table', BEIT, 'head'),
    'vision_transformer': Family('layers.0.ln1.weight', VISION_TRANSFORMER, 'head'),
    'resnet': Family('layer1.0.conv1.weight', (), 'fc'),
}
# Not part of a timm trunk: the token is the wrapper's, the index is computed from the grid.
NOT_IN_TIMM = re.compile(r'^mask_(token|gamma)$|\.relative_position_index$')


def published_family(state: dict[str, Tensor]) -> str | None:
    """Family of a trunk in published names; None if these are no published names.

    A ResNet is not among them: nothing tells its names from timm's.
    """
    names = (name for name, family in FAMILIES.items() if family.rules and family.marker in state)
    return next(names, None)


def to_timm(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Family and timm state of a trunk in published names (without ``backbone.``).

    Raises:
        ValueError: If it is of no published family.
    """
    family = published_family(state)
    if family is None and FAMILIES['resnet'].marker in state:
        family = 'resnet'
    if family is None:
        raise ValueError(
            f'no published trunk ({", ".join(FAMILIES)}) has keys such as {list(state)[:3]}'
        )
    rules = FAMILIES[family].rules
    kept = {key: tensor for key, tensor in state.items() if not NOT_IN_TIMM.search(key)}
    return family, {_rename(key, rules): tensor for key, tensor in kept.items()}


def to_a2mim(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State of our A2MIM or ImageClassifier from a whole published one, token and decoder too.

    Raises:
        ValueError: If its trunk is of no published family.
    """
    trunk = {key[9:]: tensor for key, tensor in state.items() if key.startswith('backbone.')}
    family, trunk = to_timm(trunk)
    classifier = FAMILIES[family].classifier
    others: Rules = (
        (r'^backbone\.mask_', 'backbone.mask_token.'),
        (r'^neck\.decoder_pred\.0\.', 'neck.projection.'),
        (r'^neck\.decoder\.0\.', 'neck.projection.'),
        (r'^neck\.decoder\.conv\.0\.conv\.', 'neck.block.conv.'),
        (r'^neck\.decoder\.conv\.0\.ln\.', 'neck.block.norm.'),
        (r'^head\.(fc|layers\.head)\.', f'backbone.model.{classifier}.'),
    )
    renamed = {f'backbone.model.{key}': tensor for key, tensor in trunk.items()}
    for key, tensor in state.items():
        name = _rename(key, others)
        if name != key:
            flat = name.startswith('backbone.mask_token.')
            renamed[name] = tensor.flatten() if flat else tensor
    return renamed


def _rename(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
