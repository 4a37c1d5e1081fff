"""Names that other systems give to the parameters of timm's models, one table a family.

OpenMixup 0.2.10 (and mmcls, whose names it has), torchvision 0.29, and the original releases of
ConvNeXt and Swin. Every rule is a regular expression and its replacement; rules apply in order,
each to what the ones before it made. Names that need no rule are timm's already: ResNet, and the
ViTs of the MAE, BEiT and DeiT releases.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

# The released ConvNeXt (dwconv, norm, head) differs in few names from the published one.
CONVNEXT: Rules = (
    (r'^downsample_layers\.0\.', 'stem.'),
    (r'^downsample_layers\.(\d)\.', r'stages.\1.downsample.'),
    (r'^stages\.(\d)\.(\d+)\.', r'stages.\1.blocks.\2.'),
    (r'\.(depthwise_conv|dwconv)\.', '.conv_dw.'),
    (r'\.(pointwise_conv|pwconv)(\d)\.', r'.mlp.fc\2.'),
    (r'^norm3?\.', 'head.norm.'),
    (r'^head\.(weight|bias)$', r'head.fc.\1'),
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
# timm merges patches before a stage, the others after the one below it. From the last stage on,
# because one rule sees what the one before it made.
MERGING_MOVED: Rules = tuple(
    (rf'^layers\.{stage}\.downsample\.', f'layers.{stage + 1}.downsample.') for stage in (2, 1, 0)
)
SWIN: Rules = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^stages\.', 'layers.'),
    *MERGING_MOVED,
    (r'\.attn\.w_msa\.', '.attn.'),
    (r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.fc2.'),
    (r'^norm3\.', 'norm.'),
)
RELEASED_SWIN: Rules = (*MERGING_MOVED, (r'^head\.(weight|bias)$', r'head.fc.\1'))
TORCHVISION_CONVNEXT: Rules = (
    (r'^features\.0\.', 'stem.'),
    *((rf'^features\.{2 * stage}\.', f'stages.{stage}.downsample.') for stage in (1, 2, 3)),
    *((rf'^features\.{2 * stage + 1}\.', f'stages.{stage}.blocks.') for stage in range(4)),
    (r'\.block\.0\.', '.conv_dw.'),
    (r'\.block\.2\.', '.norm.'),
    (r'\.block\.3\.', '.mlp.fc1.'),
    (r'\.block\.5\.', '.mlp.fc2.'),
    (r'\.layer_scale$', '.gamma'),
    (r'^classifier\.0\.', 'head.norm.'),
    (r'^classifier\.2\.', 'head.fc.'),
)
TORCHVISION_SWIN: Rules = (
    (r'^features\.0\.0\.', 'patch_embed.proj.'),
    (r'^features\.0\.2\.', 'patch_embed.norm.'),
    *((rf'^features\.{2 * stage}\.', f'layers.{stage}.downsample.') for stage in (1, 2, 3)),
    *((rf'^features\.{2 * stage + 1}\.', f'layers.{stage}.blocks.') for stage in range(4)),
    (r'\.mlp\.0\.', '.mlp.fc1.'),
    (r'\.mlp\.3\.', '.mlp.fc2.'),
    (r'^head\.', 'head.fc.'),
)
TORCHVISION_VIT: Rules = (
    (r'^class_token$', 'cls_token'),
    (r'^encoder\.pos_embedding$', 'pos_embed'),
    (r'^conv_proj\.', 'patch_embed.proj.'),
    (r'^encoder\.layers\.encoder_layer_', 'blocks.'),
    (r'^encoder\.ln\.', 'norm.'),
    (r'\.ln_(\d)\.', r'.norm\1.'),
    (r'\.self_attention\.in_proj_', '.attn.qkv.'),
    (r'\.self_attention\.out_proj\.', '.attn.proj.'),
    (r'\.mlp\.(0|linear_1)\.', '.mlp.fc1.'),
    (r'\.mlp\.(3|linear_2)\.', '.mlp.fc2.'),
    (r'^heads\.head\.', 'head.'),
)


def unfolded_to_timm(key: str, tensor: Tensor) -> Tensor:
    """Patch merging: columns from channel, row, column (an unfold) to timm's column, row, channel.

    The same holds for the norm before it.
    """
    if '.downsample.' not in key:
        return tensor
    cells = tensor.unflatten(-1, (-1, 2, 2))  # (…, C, row, column)
    return cells.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


def flat_layer_scale(key: str, tensor: Tensor) -> Tensor:
    """Take the two axes of length 1 off the layer scale of torchvision."""
    return tensor.flatten() if key.endswith('.gamma') else tensor


@dataclass(frozen=True)
class Family:
    """How to tell a family, rename it, and where timm keeps its classifier.

    Attributes:
        marker: A key that it has, and those before it in ``FAMILIES`` have not.
        rules: From its names to timm's.
        classifier: timm's module.
        values: From its values to timm's, given timm's name.
    """

    marker: str
    rules: Rules
    classifier: str
    values: Callable[[str, Tensor], Tensor] | None = None


# In this order: the marker of 'vision_transformer' is in the files of 'beit' too.
FAMILIES = {
    'convnext': Family('downsample_layers.0.0.weight', CONVNEXT, 'head.fc'),
    'beit': Family('layers.0.attn.relative_position_bias_table', BEIT, 'head'),
    'vision_transformer': Family('layers.0.ln1.weight', VISION_TRANSFORMER, 'head'),
    'swin': Family('stages.0.blocks.0.attn.w_msa.qkv.weight', SWIN, 'head.fc', unfolded_to_timm),
    'released swin': Family('layers.0.downsample.reduction.weight', RELEASED_SWIN, 'head.fc'),
    'torchvision convnext': Family(
        'features.1.0.layer_scale', TORCHVISION_CONVNEXT, 'head.fc', flat_layer_scale
    ),
    'torchvision swin': Family(
        'features.1.0.attn.relative_position_bias_table', TORCHVISION_SWIN, 'head.fc'
    ),
    'torchvision vision_transformer': Family('conv_proj.weight', TORCHVISION_VIT, 'head'),
    'resnet': Family('layer1.0.conv1.weight', (), 'fc'),
}
