"""Names that other systems give to the parameters of timm's models, one table a family.

OpenMixup 0.2.10 (and mmcls, whose names it has), torchvision 0.29, and the original releases of
ConvNeXt and Swin. Every rule is a regular expression and its replacement; rules apply in order,
each to what the ones before it made. Names that need no rule are timm's already: ResNet, and the
ViTs of the MAE, BEiT and DeiT releases.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
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


# [key_maps]
# From the names of other systems to those of timm, and of whole models to ours.


# Not part of a timm trunk: the token is the wrapper's, indices and masks of windows are computed
# from the grid, and decoders of MAE and BEiT serve pre-training by their methods only.
NOT_IN_TIMM = re.compile(
    r'^mask_(token|gamma)$|\.(relative_position_index|attn_mask)$'
    r'|^(decoder_(embed|pos_embed|blocks|norm|pred)|lm_head)(\.|$)'
)
# What stands beside a trunk in a published file.
PARTS: Rules = (
    (r'^neck\.decoder_pred\.0\.', 'neck.projection.'),
    (r'^neck\.decoder\.0\.', 'neck.projection.'),
    (r'^neck\.decoder\.conv\.0\.conv\.', 'neck.block.conv.'),
    (r'^neck\.decoder\.conv\.0\.ln\.', 'neck.block.norm.'),
)
# The name of a published classifier within its file.
CLASSIFIER = r'^head\.(fc|layers\.head)\.'


def published_family(state: Container[str]) -> str | None:
    """Family of a trunk in the names of another system; None if these are no such names.

    A ResNet is not among them: nothing tells its names from timm's.
    """
    names = (name for name, family in FAMILIES.items() if family.rules and family.marker in state)
    return next(names, None)


def to_timm(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Family and timm state of a trunk in published names (without ``backbone.``).

    Raises:
        ValueError: If it is of no published family.
    """
    name = published_family(state)
    if name is None and FAMILIES['resnet'].marker in state:
        name = 'resnet'
    if name is None:
        raise ValueError(
            f'no published trunk ({", ".join(FAMILIES)}) has keys such as {list(state)[:3]}'
        )
    family = FAMILIES[name]
    kept = {key: tensor for key, tensor in state.items() if not NOT_IN_TIMM.search(key)}
    renamed = {rename(key, family.rules): tensor for key, tensor in kept.items()}
    if family.values is not None:
        renamed = {key: family.values(key, tensor) for key, tensor in renamed.items()}
    return name, renamed


def rename(key: str, rules: Rules) -> str:
    """``key`` after all ``rules``."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


# [architecture]
# What a state in timm's names says about its model: family, depth, width; and why two differ.


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


# [trunk]
# Find the trunk in a checkpoint of ours, of the published system or of anybody else.


# What may stand before every key: parallel wrappers and torch.compile.
WRAPPERS = ('module.', '_orig_mod.')
# What may stand before the keys of a trunk; the first that occurs counts.
PREFIXES = (
    'backbone.model.',
    'backbone.',
    'encoder_q.',
    'base_encoder.',
    'encoder.',
    'timm_model.',
    'model.',
)


@dataclass(frozen=True)
class Trunk:
    """The trunk of a checkpoint.

    Attributes:
        state: Its tensors, in timm's names.
        prefix: What stood before its keys in the file; empty where the file holds nothing else.
        family: Published family that its keys were translated from, None where none were.
        kept, dropped: Keys of the file.
    """

    state: dict[str, Tensor]
    prefix: str
    family: str | None
    kept: list[str]
    dropped: list[str]


def find_trunk(content: Mapping) -> Trunk:
    """The trunk in the content of a checkpoint.

    Of two sets of weights, the averaged one is taken: mmengine's EMA hook writes it to
    ``state_dict``, the published one to the ordinary keys; the raw copies beside it are left out.

    Args:
        content: A state dict, or a dict with one under ``state_dict`` or ``model``.

    Raises:
        ValueError: If there are no tensors in it.
    """
    tensors = tensors_in(content)
    names = {key: unwrap(key) for key in tensors}
    prefix = find_prefix(names.values())
    state, kept = {}, []
    for key, name in names.items():
        own = name[len(prefix) :]
        if name.startswith(prefix) and not NOT_IN_TIMM.search(own):
            state[own] = tensors[key]
            kept.append(key)
    family = published_family(state)
    if family is not None:
        family, state = to_timm(state)
    return Trunk(state, prefix, family, kept, [key for key in tensors if key not in set(kept)])


def trunk_state(content: Mapping) -> dict[str, Tensor]:
    """The tensors of ``find_trunk`` alone."""
    return find_trunk(content).state


def tensors_in(content: Mapping) -> dict[str, Tensor]:
    """The state dict in the content of a checkpoint.

    Raises:
        ValueError: If there are no tensors in it.
    """
    for name in ('state_dict', 'model'):
        if isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f'no weights found; the file has the entries {list(content)[:8]}')
    return tensors


def find_prefix(names: Iterable[str]) -> str:
    """What stands before the keys of a trunk; empty where nothing does."""
    names = set(names)
    if published_family(names):
        return ''  # not the "encoder." that is a part of torchvision's ViT
    return next((p for p in PREFIXES if any(name.startswith(p) for name in names)), '')


def unwrap(key: str) -> str:
    """``key`` without what parallel wrappers and torch.compile put before it."""
    while key.startswith(WRAPPERS):
        key = key[key.index('.') + 1 :]
    return key


# [importing]
# A checkpoint of another system as one of ours: trunk, mask token, gamma and decoder.
#
# In our models the trunk is ``backbone.model``, in timm's names, the token ``backbone.mask_token``
# and the decoder ``neck``. Copies that an average keeps beside the weights (``ema_…``) are left
# out: in published files the ordinary keys hold the average.


TRUNK = 'backbone.model.'
TOKEN = 'backbone.mask_token.'
DECODER = 'neck.'
MASKS = {'mask_token': 'token', 'mask_gamma': 'gamma'}


@dataclass(frozen=True)
class Imported:
    """A checkpoint in the names of our models.

    Attributes:
        state: Its tensors.
        trunk: What was found out about the trunk.
        dropped: Keys of the file that have no place in our models.
    """

    state: dict[str, Tensor]
    trunk: Trunk
    dropped: list[str]


def is_ours(content: Mapping) -> bool:
    """Whether the keys of a checkpoint are those of our models already."""
    return any(unwrap(key).startswith(TRUNK) for key in tensors_in(content))


def import_weights(content: Mapping) -> Imported:
    """Translate the content of a checkpoint.

    Args:
        content: A state dict, or a dict with one under ``state_dict`` or ``model``.

    Raises:
        ValueError: If it holds no weights, or a trunk of no family that is known.
    """
    trunk = find_trunk(content)
    if architecture(trunk.state) is None:
        raise ValueError(
            'its trunk is of no family that is translated (ResNet, ConvNeXt, ViT and Swin of '
            f'OpenMixup, timm, torchvision, MAE and BEiT); its keys: {_some(content)}'
        )
    tensors = tensors_in(content)
    # In MAE's files the token belongs to the decoder, which is not ours.
    has_token = not any(key.startswith('decoder_embed.') for key in map(unwrap, tensors))
    state = {f'{TRUNK}{key}': tensor for key, tensor in trunk.state.items()}
    dropped = []
    for key in trunk.dropped:
        name = unwrap(key)
        own = name.removeprefix(trunk.prefix)
        if own in MASKS and has_token:
            state[f'{TOKEN}{MASKS[own]}'] = tensors[key].flatten()
            continue
        classifier = f'{TRUNK}{classifier_of(trunk.state)}.'
        renamed = rename(name, (*PARTS, (CLASSIFIER, classifier)))
        if renamed != name:
            state[renamed] = tensors[key]
        else:
            dropped.append(key)
    return Imported(state, trunk, dropped)


def to_a2mim(content: Mapping) -> dict[str, Tensor]:
    """The tensors of ``import_weights`` alone.

    Raises:
        ValueError: If it holds no weights, or a trunk of no family that is known.
    """
    return import_weights(content).state


def _some(content: Mapping) -> str:
    return ', '.join(list(tensors_in(content))[:3])
