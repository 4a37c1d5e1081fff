"""Parameter names of other systems, and how a checkpoint of any system becomes one of ours.

``FAMILIES`` has one table for each system and architecture, which import and export both read:
OpenMixup 0.2.10 (and mmcls and MMPretrain, whose names it has), the original releases of ConvNeXt
and Swin, torchvision 0.29, MMSegmentation and detectron2. Names that no table has are timm's
already: ResNet, and the ViTs of the MAE, BEiT and DeiT releases.

In our models the timm network is ``backbone.model``, the mask token ``backbone.mask_token`` and
the decoder ``neck``.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

# Parts of names, theirs and timm's: ^ and $ are the ends of a name, # is a number. To timm they
# apply in order, each to what the ones before it made; from timm in the reverse order. Of two
# names for one of timm's, the later one is written and the earlier one only read.
Pairs = tuple[tuple[str, str], ...]

# timm merges patches before a stage, the others after the one below it.
MERGING: Pairs = tuple(
    (f'^layers.{stage}.downsample.', f'^layers.{stage + 1}.downsample.') for stage in (2, 1, 0)
)
RELEASED_HEAD: Pairs = tuple((f'^head.{leaf}$', f'^head.fc.{leaf}$') for leaf in ('weight', 'bias'))
CONVNEXT: Pairs = (
    ('^downsample_layers.0.', '^stem.'),
    ('^downsample_layers.#.', '^stages.#.downsample.'),
    ('^stages.#.#.', '^stages.#.blocks.#.'),
    ('.dwconv.', '.conv_dw.'),  # of the release
    ('.depthwise_conv.', '.conv_dw.'),
    ('.pwconv#.', '.mlp.fc#.'),
    ('.pointwise_conv#.', '.mlp.fc#.'),
    *RELEASED_HEAD,
    ('^norm.', '^head.norm.'),
    ('^norm3.', '^head.norm.'),
)
MLP: Pairs = (('.ffn.layers.0.0.', '.mlp.fc1.'), ('.ffn.layers.1.', '.mlp.fc2.'))
BEIT: Pairs = (
    ('^patch_embed.projection.', '^patch_embed.proj.'),
    ('^layers.', '^blocks.'),
    ('^ln1.', '^norm.'),
    ('.ln#.', '.norm#.'),
    *MLP,
)
# MMSegmentation's class has the attention of torch.
MMSEG_VIT: Pairs = (
    *BEIT,
    ('.attn.attn.in_proj_', '.attn.qkv.'),
    ('.attn.attn.out_proj.', '.attn.proj.'),
)
SWIN: Pairs = (
    ('^patch_embed.projection.', '^patch_embed.proj.'),
    ('^stages.', '^layers.'),
    *MERGING,
    ('.attn.w_msa.', '.attn.'),
    *MLP,
    ('^norm3.', '^norm.'),
)
# torchvision keeps the stages and what stands before each of them in one list.
TORCHVISION_CONVNEXT: Pairs = (
    ('^features.0.', '^stem.'),
    *((f'^features.{2 * i}.', f'^stages.{i}.downsample.') for i in (1, 2, 3)),
    *((f'^features.{2 * i + 1}.', f'^stages.{i}.blocks.') for i in range(4)),
    ('.block.0.', '.conv_dw.'),
    ('.block.2.', '.norm.'),
    ('.block.3.', '.mlp.fc1.'),
    ('.block.5.', '.mlp.fc2.'),
    ('.layer_scale$', '.gamma$'),
    ('^classifier.0.', '^head.norm.'),
    ('^classifier.2.', '^head.fc.'),
)
TORCHVISION_SWIN: Pairs = (
    ('^features.0.0.', '^patch_embed.proj.'),
    ('^features.0.2.', '^patch_embed.norm.'),
    *((f'^features.{2 * i}.', f'^layers.{i}.downsample.') for i in (1, 2, 3)),
    *((f'^features.{2 * i + 1}.', f'^layers.{i}.blocks.') for i in range(4)),
    ('.mlp.0.', '.mlp.fc1.'),
    ('.mlp.3.', '.mlp.fc2.'),
    ('^head.', '^head.fc.'),
)
TORCHVISION_VIT: Pairs = (
    ('^class_token$', '^cls_token$'),
    ('^encoder.pos_embedding$', '^pos_embed$'),
    ('^conv_proj.', '^patch_embed.proj.'),
    ('^encoder.layers.encoder_layer_', '^blocks.'),
    ('^encoder.ln.', '^norm.'),
    ('.ln_#.', '.norm#.'),
    ('.self_attention.in_proj_', '.attn.qkv.'),
    ('.self_attention.out_proj.', '.attn.proj.'),
    ('.mlp.linear_1.', '.mlp.fc1.'),  # before torchvision 0.12
    ('.mlp.linear_2.', '.mlp.fc2.'),
    ('.mlp.0.', '.mlp.fc1.'),
    ('.mlp.3.', '.mlp.fc2.'),
    ('^heads.head.', '^head.'),
)
DETECTRON2_RESNET: Pairs = (
    ('^stem.conv1.norm.', '^bn1.'),
    ('^stem.conv1.', '^conv1.'),
    *((f'^res{i + 1}.', f'^layer{i}.') for i in (1, 2, 3, 4)),
    ('.shortcut.norm.', '.downsample.1.'),
    ('.shortcut.', '.downsample.0.'),
    ('.conv#.norm.', '.bn#.'),
)


def unfolded_to_timm(key: str, tensor: Tensor) -> Tensor:
    """Patch merging: columns from channel, row, column (an unfold) to timm's column, row, channel.

    The same holds for the norm before it.
    """
    if '.downsample.' not in key:
        return tensor
    cells = tensor.unflatten(-1, (-1, 2, 2))  # (…, C, row, column)
    return cells.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


def timm_to_unfolded(key: str, tensor: Tensor) -> Tensor:
    """The inverse of ``unfolded_to_timm``."""
    if '.downsample.' not in key:
        return tensor
    cells = tensor.unflatten(-1, (2, 2, -1))  # (…, column, row, C)
    return cells.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


def flat_layer_scale(key: str, tensor: Tensor) -> Tensor:
    """Layer scale of torchvision (C, 1, 1) as timm's (C,)."""
    return tensor.flatten() if key.endswith('.gamma') else tensor


def spatial_layer_scale(key: str, tensor: Tensor) -> Tensor:
    """The inverse of ``flat_layer_scale``."""
    return tensor[:, None, None] if key.endswith('.gamma') else tensor


def unchanged(key: str, tensor: Tensor) -> Tensor:
    """Values that are the same in both systems."""
    return tensor


@dataclass(frozen=True)
class Family:
    """One architecture in the names of one system.

    Attributes:
        marker: A key that it has, and those before it in ``FAMILIES`` have not; None for names
            that are written only.
        pairs: Its names and timm's.
        import_value, export_value: Its values to timm's and back, given timm's name.
    """

    marker: str | None
    pairs: Pairs
    import_value: Callable[[str, Tensor], Tensor] = unchanged
    export_value: Callable[[str, Tensor], Tensor] = unchanged

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this family in timm's names."""
        named = {rename(key, self.pairs): tensor for key, tensor in state.items()}
        return {key: self.import_value(key, tensor) for key, tensor in named.items()}

    def from_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of timm in the names of this family."""
        return {self.their_name(key): self.export_value(key, t) for key, t in state.items()}

    def their_name(self, key: str) -> str:
        """A name of timm in this family."""
        return rename(key, tuple((timms, theirs) for theirs, timms in reversed(self.pairs)))


# In this order: the marker of 'vision_transformer' is in the files of 'beit' too.
FAMILIES = {
    'convnext': Family('downsample_layers.0.0.weight', CONVNEXT),
    'beit': Family('layers.0.attn.relative_position_bias_table', BEIT),
    'vision_transformer': Family('layers.0.ln1.weight', (*BEIT, ('.gamma_#$', '.ls#.gamma$'))),
    'swin': Family(
        'stages.0.blocks.0.attn.w_msa.qkv.weight', SWIN, unfolded_to_timm, timm_to_unfolded
    ),
    'released swin': Family('layers.0.downsample.reduction.weight', (*MERGING, *RELEASED_HEAD)),
    'torchvision convnext': Family(
        'features.1.0.layer_scale', TORCHVISION_CONVNEXT, flat_layer_scale, spatial_layer_scale
    ),
    'torchvision swin': Family('features.1.0.attn.relative_position_bias_table', TORCHVISION_SWIN),
    'torchvision vision_transformer': Family('conv_proj.weight', TORCHVISION_VIT),
    'mmseg vision_transformer': Family(None, MMSEG_VIT),
    'detectron2 resnet': Family(None, DETECTRON2_RESNET),
    'resnet': Family(None, ()),
}


def rename(key: str, pairs: Pairs) -> str:
    """``key`` with every first name of ``pairs`` replaced by the second."""
    for old, new in pairs:
        pattern, replacement = _compile(old, new)
        key = pattern.sub(replacement, key)
    return key


@cache
def _compile(old: str, new: str) -> tuple[re.Pattern[str], str]:
    pattern = re.escape(old)
    for escaped, special in ((r'\^', '^'), (r'\$', '$'), (r'\#', r'(\d+)')):
        pattern = pattern.replace(escaped, special)
    first, *rest = new.strip('^$').split('#')
    groups = (rf'\g<{number}>{part}' for number, part in enumerate(rest, start=1))
    return re.compile(pattern), ''.join((first, *groups))


def published_family(names: Container[str]) -> str | None:
    """Family of a backbone with these keys; None if they are timm's, or nobody's."""
    marked = ((name, family.marker) for name, family in FAMILIES.items())
    return next((name for name, marker in marked if marker and marker in names), None)


# Key that tells an architecture, its name in messages, and where timm keeps its classifier.
ARCHITECTURES = (
    ('layer1.0.conv1.weight', 'ResNet', 'fc'),
    ('stages.0.blocks.0.conv_dw.weight', 'ConvNeXt', 'head.fc'),
    ('layers.0.blocks.0.attn.relative_position_bias_table', 'Swin', 'head.fc'),
    ('blocks.0.attn.relative_position_bias_table', 'ViT with relative positions', 'head'),
    ('rel_pos_bias.relative_position_bias_table', 'ViT with relative positions', 'head'),
    ('blocks.0.attn.qkv.weight', 'ViT without relative positions', 'head'),
)
BLOCK = re.compile(r'^(layer\d+\.|(?:(?:stages|layers)\.\d+\.)?blocks\.)(\d+)\.')
# The first layer of each architecture.
FIRST = ('conv1.weight', 'stem.0.weight', 'patch_embed.proj.weight')


def architecture(state: Mapping[str, Tensor]) -> str | None:
    """The architecture of a state in timm's names; None where it is none of those above."""
    return next((name for marker, name, _ in ARCHITECTURES if marker in state), None)


def classifier_of(state: Mapping[str, Tensor]) -> str | None:
    """The module that timm takes for the classifier of this architecture.

    For a state without a model; ``fit.classifier_prefixes`` asks timm's model itself.
    """
    return next((path for marker, _, path in ARCHITECTURES if marker in state), None)


def depth(state: Mapping[str, Tensor]) -> str:
    """Number of blocks, as ``'3+4+6+3'`` where there are several stages."""
    blocks: dict[str, set[str]] = {}
    for match in filter(None, map(BLOCK.match, state)):
        blocks.setdefault(match[1], set()).add(match[2])
    return '+'.join(str(len(blocks[stage])) for stage in sorted(blocks))


def difference(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Why ``state`` is of another architecture than ``own``; None where nothing says so."""
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


# What parallel wrappers and torch.compile put before every key.
WRAPPERS = ('module.', '_orig_mod.')
# What may stand before the keys of a backbone; the first that occurs counts.
PREFIXES = (
    'backbone.model.',
    'backbone.',
    'encoder_q.',
    'base_encoder.',
    'encoder.',
    'timm_model.',
    'model.',
)
# Not part of a timm network: the token is the wrapper's, indices and masks of windows are computed
# from the grid, and decoders of MAE and BEiT serve pre-training by their methods only.
NOT_IN_TIMM = re.compile(
    r'^mask_(token|gamma)$|\.(relative_position_index|attn_mask)$'
    r'|^(decoder_(embed|pos_embed|blocks|norm|pred)|lm_head)(\.|$)'
)


@dataclass(frozen=True)
class Backbone:
    """The backbone in a checkpoint.

    Attributes:
        state: Its tensors, in timm's names.
        prefix: What stood before its keys in the file; empty where the file holds nothing else.
        family: Key of ``FAMILIES`` that its names were translated from, None where none were.
        kept, dropped: Keys of the file.
    """

    state: dict[str, Tensor]
    prefix: str
    family: str | None
    kept: list[str]
    dropped: list[str]


def find_backbone(content: Mapping) -> Backbone:
    """The backbone in the content of a checkpoint.

    Of two sets of weights, the averaged one is taken: mmengine's EMA hook writes it to
    ``state_dict``, OpenMixup to the ordinary keys; the raw copies (``ema_…``) are left out.

    Args:
        content: A state dict, or a dict with one under ``state_dict`` or ``model``.

    Raises:
        ValueError: If there are no tensors in it.
    """
    tensors = tensors_in(content)
    names = {key: unwrap(key) for key in tensors}
    prefix = find_prefix(names.values())
    own = {key: name[len(prefix) :] for key, name in names.items() if name.startswith(prefix)}
    own = {key: name for key, name in own.items() if not NOT_IN_TIMM.search(name)}
    state = {name: tensors[key] for key, name in own.items()}
    family = published_family(state)
    if family is not None:
        state = FAMILIES[family].to_timm(state)
    return Backbone(state, prefix, family, [*own], [key for key in tensors if key not in own])


def backbone_state(content: Mapping) -> dict[str, Tensor]:
    """The tensors of ``find_backbone`` alone."""
    return find_backbone(content).state


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
    """What stands before the keys of a backbone; empty where nothing does."""
    names = set(names)
    if published_family(names):
        return ''  # not the "encoder." that is a part of torchvision's ViT
    return next((p for p in PREFIXES if any(name.startswith(p) for name in names)), '')


def unwrap(key: str) -> str:
    """``key`` without what parallel wrappers and torch.compile put before it."""
    while key.startswith(WRAPPERS):
        key = key[key.index('.') + 1 :]
    return key


BACKBONE = 'backbone.model.'
TOKEN = 'backbone.mask_token.'
DECODER = 'neck.'
MASKS = {'mask_token': 'token', 'mask_gamma': 'gamma'}
# Decoders of OpenMixup.
DECODERS: Pairs = (
    ('^neck.decoder_pred.0.', 'neck.projection.'),
    ('^neck.decoder.0.', 'neck.projection.'),
    ('^neck.decoder.conv.0.conv.', 'neck.block.conv.'),
    ('^neck.decoder.conv.0.ln.', 'neck.block.norm.'),
)


@dataclass(frozen=True)
class Imported:
    """A checkpoint in the names of our models.

    Attributes:
        state: Its tensors.
        backbone: What was found out about the backbone.
        dropped: Keys of the file that have no counterpart in our models.
    """

    state: dict[str, Tensor]
    backbone: Backbone
    dropped: list[str]


def is_ours(content: Mapping) -> bool:
    """Whether the keys of a checkpoint are those of our models already."""
    return any(unwrap(key).startswith(BACKBONE) for key in tensors_in(content))


def import_weights(content: Mapping) -> Imported:
    """Translate the content of a checkpoint.

    Args:
        content: A state dict, or a dict with one under ``state_dict`` or ``model``.

    Raises:
        ValueError: If it holds no weights, or a backbone of no known family.
    """
    backbone, tensors = find_backbone(content), tensors_in(content)
    classifier = classifier_of(backbone.state)
    if classifier is None:
        raise ValueError(
            'its backbone is of no family that is translated (ResNet, ConvNeXt, ViT and Swin of '
            f'OpenMixup, timm, torchvision, MAE and BEiT); its keys: {", ".join(list(tensors)[:3])}'
        )
    heads = tuple((f'^head.{name}.', f'{BACKBONE}{classifier}.') for name in ('fc', 'layers.head'))
    # In MAE's files the token belongs to the decoder, which is not ours.
    has_token = not any(key.startswith('decoder_embed.') for key in map(unwrap, tensors))
    state = {f'{BACKBONE}{key}': tensor for key, tensor in backbone.state.items()}
    dropped = []
    for key in backbone.dropped:
        name = unwrap(key)
        own = name.removeprefix(backbone.prefix)
        renamed = rename(name, (*DECODERS, *heads))
        if own in MASKS and has_token:
            state[f'{TOKEN}{MASKS[own]}'] = tensors[key].flatten()
        elif renamed != name:
            state[renamed] = tensors[key]
        else:
            dropped.append(key)
    return Imported(state, backbone, dropped)


def to_a2mim(content: Mapping) -> dict[str, Tensor]:
    """The tensors of ``import_weights`` alone.

    Raises:
        ValueError: As ``import_weights``.
    """
    return import_weights(content).state
