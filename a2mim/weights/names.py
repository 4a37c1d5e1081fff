"""How a checkpoint of any system becomes one of ours.

In our models the timm network is ``backbone.model``, the mask token ``backbone.mask_token`` and
the decoder ``neck``.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from a2mim.weights.families import FAMILIES, Pairs, published_family, rename
from a2mim.weights.safe_load import asked_weights

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
    # Patches that have learned to use registers are others without them.
    registers = {'reg_token', 'register_tokens'} & state.keys()
    return other_tokens(state, own) if registers and 'reg_token' not in own else None


# What stands beside the patches of a ViT.
TOKENS = dict(cls_token='class token', dist_token='distillation token', reg_token='registers')


def other_tokens(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Which tokens beside the patches a ViT has more or fewer than the file; None if none."""
    counts = {
        what: tuple(names[key].shape[-2] if key in names else 0 for names in (state, own))
        for key, what in TOKENS.items()
    }
    if 'register_tokens' in state:
        counts['registers'] = (state['register_tokens'].shape[-2], counts['registers'][1])
    differing = [
        f'the file has {found or "no"} {what}, the model {expected or "none"}'
        for what, (found, expected) in counts.items()
        if found != expected
    ]
    return f'{"; ".join(differing)}: choose a model_name with the same' if differing else None


BACKBONE = 'backbone.model.'
# What parallel wrappers and torch.compile put into a key.
WRAPPERS = re.compile(r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
PARALLEL = re.compile(r'(?<![^.])module\.')
# What may stand before the keys of a backbone of no known family, where no model is there to
# compare with; the first that occurs counts.
PREFIXES = (
    BACKBONE,
    'backbone.',
    'encoder_q.',
    'base_encoder.',
    'encoder.',
    'timm_model.',
    'model.',
)
# Not part of a timm network: the token is the wrapper's, indices and masks of windows are computed
# from the grid, and decoders of MAE and BEiT and the pooler of transformers are no backbone.
NOT_IN_TIMM = re.compile(
    r'^mask_(token|gamma)$|\.(relative_position_index|attn_mask)$'
    r'|^(decoder_(embed|pos_embed|blocks|norm|pred)|lm_head|pooler)(\.|$)'
)
# Entries of checkpoints that may hold tensors, and hold no weights.
NO_WEIGHTS = re.compile(r'optim|sched|scaler|callback|loops|^(meta|message_hub|args|hyper_param)')
# The entries that whole checkpoints keep their weights in, the likeliest first.
ENTRIES = ('state_dict', 'model', 'model_state_dict', 'net', 'network', 'weights', 'params')
# In the path of an average over steps, and of the second network of a contrastive method, which
# its authors do not use further.
AVERAGED = re.compile(r'(^|[._])(ema|teacher|avg|averaged?|swa)([._]|$)')
SECOND = re.compile(r'(^|[._])(momentum|target|k)([._]|$)')
# Share of the names of the best set of weights that a twin of it has.
TWIN = 0.9
# Share of the names of a network below which a file is not of it.
FITTING = 0.3
KINDS = ('averaged', 'raw', 'second')
# Where mmengine's EMA hook puts the raw weights.
RAW_OF_MMENGINE = 'ema_state_dict'
MARKERS = (
    *(family.marker for family in FAMILIES.values() if family.marker),
    *(marker for marker, _, _ in ARCHITECTURES),
)


@dataclass(frozen=True)
class WeightSet:
    """Tensors that stand together in a checkpoint.

    Attributes:
        entry: Path of the entry with them, ``''`` where they stand in the file itself.
        kind: ``'averaged'`` over steps; ``'raw'``; ``'second'``: of another network than the one
            that a method is used for.
        tensors: By the keys of the file.
    """

    entry: str
    kind: str
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Backbone:
    """The backbone in a checkpoint.

    Attributes:
        state: Its tensors, in timm's names.
        whole: The same, and what timm's network has not, such as a mask token.
        prefix: What stood before its keys in the file; empty where the file holds nothing else.
        family: Key of ``FAMILIES`` that its names were translated from, None where none were.
        source: The entry of the file that it is in.
        kept, dropped: Keys of that entry.
        others: Where further sets of the same weights are.
    """

    state: dict[str, Tensor]
    whole: dict[str, Tensor]
    prefix: str
    family: str | None
    source: WeightSet
    kept: list[str]
    dropped: list[str]
    others: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where it is: entry and prefix."""
        return '.'.join(filter(None, (self.source.entry, self.prefix[:-1]))) or 'the file itself'

    @property
    def kind(self) -> str:
        """As of a ``WeightSet``; a prefix may tell it as well as an entry."""
        return self.source.kind if self.source.kind != 'raw' else _kind(self.prefix)

    @property
    def choice(self) -> str:
        """Which of several sets of weights this is; empty where there is one."""
        if not self.others:
            return ''
        other = 'raw' if asked_weights() == 'averaged' else 'averaged'
        return (
            f'of several sets of weights, {self.path} is taken ({self.kind}), not '
            f'{", ".join(self.others)}; --weights {other} prefers the {other} one'
        )


def find_backbone(content: Mapping, own: Collection[str] | None = None) -> Backbone:
    """The backbone in the content of a checkpoint.

    Of several sets of weights, the averaged one is taken, or the raw one within
    ``choose_weights('raw')``. mmengine's EMA hook writes the average to ``state_dict``, OpenMixup
    to the ordinary keys, timm to ``state_dict_ema`` and torchvision to ``model_ema``.

    Args:
        content: A state dict, or a dict with state dicts in it, at any depth.
        own: Names of the timm network that it is for. What stands before the keys is then what
            leaves most of these; without, what leaves names of a known family.

    Raises:
        ValueError: If there are no tensors in it.
    """
    candidates = [
        (source, prefix)
        for source in weight_sets(content)
        for prefix in _prefixes(source.tensors, own)
    ]
    found = [_below(source, prefix, own or ()) for source, prefix in candidates]
    fitting = [len(b.state) if own is None else _number_in(b.state, own) for b in found]
    if own is not None and max(fitting) < FITTING * len(own):
        return find_backbone(content)
    twins = [b for b, number in zip(found, fitting, strict=True) if number >= TWIN * max(fitting)]
    best = min(twins, key=lambda backbone: _order(backbone.kind, backbone.source.entry))
    others = {b.path: None for b in twins if b.path != best.path}
    return replace(best, others=tuple(others))


def backbone_state(content: Mapping) -> dict[str, Tensor]:
    """The tensors of ``find_backbone`` alone."""
    return find_backbone(content).state


def tensors_in(content: Mapping) -> dict[str, Tensor]:
    """The state dict in the content of a checkpoint; of several, as in ``find_backbone``.

    Raises:
        ValueError: If there are no tensors in it.
    """
    sets = weight_sets(content)
    largest = max(len(weights.tensors) for weights in sets)
    sets = [weights for weights in sets if len(weights.tensors) >= largest / 2]
    return min(sets, key=lambda weights: _order(weights.kind, weights.entry)).tensors


def weight_sets(content: Mapping) -> list[WeightSet]:
    """Everything in the content of a checkpoint that may be weights.

    Raises:
        ValueError: If there are no tensors in it.
    """
    found = dict(_walk(content))
    if not found:
        raise ValueError(f'no weights found; the file has the entries {list(content)[:8]}')
    kinds = {entry: _kind(entry) for entry in found}
    if 'meta' in content and {'state_dict', RAW_OF_MMENGINE} <= found.keys():
        kinds.update({'state_dict': 'averaged', RAW_OF_MMENGINE: 'raw'})
    sets = []
    for entry, tensors in found.items():
        names = {key: f'ema_{key.replace(".", "_")}' for key in tensors}
        raw = {key: tensors[name] for key, name in names.items() if name in tensors}
        if raw:
            sets.append(WeightSet(f'{entry} (ema_…)'.strip(), 'raw', raw))
        sets.append(WeightSet(entry, 'averaged' if raw else kinds[entry], tensors))
    return sets


def _walk(content: Mapping, path: str = '') -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict with tensors, by its path."""
    items = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in items.items() if isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in items.items():
        if isinstance(value, Mapping) and not NO_WEIGHTS.search(key):
            yield from _walk(value, f'{path}.{key}'.lstrip('.'))


def _kind(path: str) -> str:
    return 'averaged' if AVERAGED.search(path) else 'second' if SECOND.search(path) else 'raw'


def _order(kind: str, entry: str) -> tuple[int, int]:
    """What is taken first."""
    kinds = ('raw', 'averaged', 'second') if asked_weights() == 'raw' else KINDS
    entries = [place for place, name in enumerate(ENTRIES) if name == entry.split('.')[0]]
    return kinds.index(kind), next(iter(entries), len(ENTRIES))


def _below(source: WeightSet, prefix: str, own: Collection[str]) -> Backbone:
    """The tensors behind a prefix, in timm's names."""
    names = _unwrapped(source.tensors, own)
    names = {k: name[len(prefix) :] for k, name in names.items() if name.startswith(prefix)}
    whole = {name: source.tensors[key] for key, name in names.items()}
    family = published_family(whole)
    translated = whole if family is None else FAMILIES[family].to_timm(whole)
    if own and _number_in(translated, own) <= _number_in(whole, own):
        family = None  # timm has a few of the names that mark other systems
    whole = whole if family is None else translated
    state = {k: tensor for k, tensor in whole.items() if k in own or not NOT_IN_TIMM.search(k)}
    kept = [k for k, name in names.items() if name in own or not NOT_IN_TIMM.search(name)]
    dropped = [key for key in source.tensors if key not in kept]
    return Backbone(state, whole, prefix, family, source, kept, dropped)


def _number_in(names: Iterable[str], own: Collection[str]) -> int:
    return sum(name in own for name in names)


def _prefixes(keys: Iterable[str], own: Collection[str] | None) -> list[str]:
    """What may stand before the keys of a backbone.

    Args:
        keys: Of a set of weights.
        own: Names of the network that it is for, if there is one.
    """
    names = dict.fromkeys(_unwrapped(keys, own).values())
    marked = {
        name[: -len(marker)]: None
        for name in names
        for marker in MARKERS
        if name == marker or name.endswith(f'.{marker}')
    }
    if own is None:
        found = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in names)]
        return found[:1] if found[:1] == [BACKBONE] else list(marked) or found[:1] or ['']
    starts = Counter(
        name[:place]
        for name in names
        for place in (0, *(match.end() for match in re.finditer(r'\.', name)))
        if name[place:] in own
    )
    most = max(starts.values(), default=0)
    if starts[BACKBONE] >= TWIN * most > 0:
        return [BACKBONE]  # of ours, in which another may be a teacher
    return [*{**dict.fromkeys(s for s in starts if starts[s] >= TWIN * most), **marked}] or ['']


def unwrap(key: str) -> str:
    """``key`` without what parallel wrappers and torch.compile put into it.

    ``module`` is a part of timm's names too (iFormer), behind the number of a block.
    """
    key = WRAPPERS.sub('', key)
    numbered = re.search(r'\.\d', key)
    place = numbered.start() + 1 if numbered else len(key)
    return PARALLEL.sub('', key[:place]) + key[place:]


def _unwrapped(keys: Iterable[str], own: Collection[str] | None) -> dict[str, str]:
    """Keys and what ``unwrap`` makes of them; everywhere where the network has no ``module``."""
    names = {key: unwrap(key) for key in keys}
    if not own or any(PARALLEL.search(name) for name in own):
        return names
    return {key: PARALLEL.sub('', name) for key, name in names.items()}


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
# That of the releases of MAE, which holds the mask token, and by which its files are known.
MAE_DECODER: Pairs = (
    ('^decoder_embed.', 'neck.embed.'),
    ('^mask_token$', 'neck.mask_token'),
    ('^decoder_blocks.', 'neck.blocks.'),
    ('^decoder_norm.', 'neck.norm.'),
    ('^decoder_pred.', 'neck.predict.'),
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


def is_of_mae(content: Mapping) -> bool:
    """Whether a checkpoint is a pre-training of MAE's authors, with its decoder."""
    return any(unwrap(key).startswith('decoder_embed.') for key in tensors_in(content))


def import_weights(content: Mapping, own: Collection[str] | None = None) -> Imported:
    """Translate the content of a checkpoint; arguments as of ``find_backbone``.

    Raises:
        ValueError: If it holds no weights, or a backbone of no known family.
    """
    backbone = find_backbone(content, own)
    tensors = backbone.source.tensors
    classifier = classifier_of(backbone.state)
    if classifier is None:
        raise ValueError(
            'its backbone is of no family that is translated (ResNet, ConvNeXt, ViT and Swin of '
            f'OpenMixup, timm, torchvision, MAE and BEiT); its keys: {", ".join(list(tensors)[:3])}'
        )
    heads = tuple((f'^head.{name}.', f'{BACKBONE}{classifier}.') for name in ('fc', 'layers.head'))
    of_mae = is_of_mae(tensors)
    decoders = MAE_DECODER if of_mae else DECODERS
    state = {f'{BACKBONE}{key}': tensor for key, tensor in backbone.state.items()}
    dropped = []
    for key in backbone.dropped:
        name = unwrap(key)
        own = name.removeprefix(backbone.prefix)
        renamed = rename(name, (*decoders, *heads))
        if own in MASKS and not of_mae:
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
