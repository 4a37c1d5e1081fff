"""The loader of weights: adapt a state dict to a model, compare, and load it or refuse.

Every way into a model goes through here: ``--pretrained``, ``--load-checkpoint``, ``load_model``,
transfer and export. A checkpoint of any system gets timm's or our names (``names``), positions are
interpolated where the ``Policy`` allows it, a classifier of other classes is left out or refused,
and what is left has to match the model.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from mmengine.logging import print_log
from timm.layers.patch_embed import resample_patch_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from a2mim.weights.names import (
    BACKBONE,
    DECODER,
    TOKEN,
    architecture,
    difference,
    find_backbone,
    import_weights,
    is_of_mae,
    is_ours,
    other_tokens,
    tensors_in,
    unwrap,
)

Shapes = Mapping[str, tuple[int, ...]]
TABLE = 'relative_position_bias_table'
SHARED = f'rel_pos_bias.{TABLE}'
# Names of its releases, by which timm's rule does not know them.
DINOV2 = re.compile(r'register_tokens|\.mlp\.w12\.')
# The norm that pooling puts before or behind itself.
LAST_NORM = ('norm.', 'fc_norm.', 'head.norm.')
# Of pre-training, which fine-tuned ViTs of OpenMixup may carry along unused.
LEFTOVERS = (TOKEN, f'{BACKBONE}norm.')


@dataclass(frozen=True)
class Policy:
    """What a file needs to hold for a model.

    Attributes:
        min_match: Least ``LoadReport.rate``. Shapes have to agree always.
        resize: Whether positions, patches and channels are adapted to the model, as timm does.
        new_head: Whether a head and the norm before it may be the model's own.
        subset: Whether the model may have fewer stages than the file, and no tables of relative
            positions.
        advice: End of the error message.
    """

    min_match: float = 1.0
    resize: bool = False
    new_head: bool = False
    subset: bool = False
    advice: str = 'Is it of another architecture?'


COMPLETE = Policy()
PRETRAINED = Policy(min_match=0.9, resize=True, new_head=True)


@dataclass(frozen=True)
class LoadReport:
    """The names of a model against those of a state dict.

    Attributes:
        matched: In both, with the same shape.
        missing: In the model only.
        unexpected: In the state only.
        mismatched: In both with another shape: name, shape in the model, shape in the state.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    @property
    def rate(self) -> float:
        """Share of matched tensors, of the larger of model and state.

        The larger, because a ResNet-101 fills a ResNet-50 completely and is wrong all the same.
        BatchNorm's step counters, which old files lack, do not count.
        """
        matched = _count(self.matched)
        rest = max(_count(self.missing), _count(self.unexpected)) + len(self.mismatched)
        return matched / max(matched + rest, 1)

    @property
    def complete(self) -> bool:
        """Whether every tensor of both matches."""
        return self.rate == 1 and not self.mismatched

    def without(self, starts: tuple[str, ...]) -> 'LoadReport':
        """The same, but for names that begin like this and are in one of the two only."""
        missing, unexpected = (
            [name for name in names if not name.startswith(starts)]
            for names in (self.missing, self.unexpected)
        )
        return replace(self, missing=missing, unexpected=unexpected)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} tensors, {self.rate:.0%} match']
        shapes = [f'{name} {new} for {own}' for name, own, new in self.mismatched]
        for title, names in (
            ('not in the file', self.missing),
            ('not used', self.unexpected),
            ('of another shape', shapes),
        ):
            if names:
                parts.append(f'{len(names)} {title} ({some(names)})')
        return '; '.join(parts)


def load_backbone(
    network: nn.Module,
    content: Mapping,
    path: str | Path,
    policy: Policy = PRETRAINED,
    *,
    part: str | None = None,
) -> LoadReport:
    """Load the backbone in a checkpoint into a timm network.

    A classifier of another number of classes is left out.

    Args:
        network: A timm network, or a module with some of its names; unchanged where this raises.
        content: Of a checkpoint of any system.
        path: Where it came from, for messages.
        policy: What has to match.
        part: The module of timm's network that ``network`` holds, such as ``'layer4'``; everything
            else in it is new and keeps its values.

    Raises:
        ValueError: If too little matches or the architecture differs; the message says what.
    """
    with prefix_errors(path):
        own = _part_of(network, part)
        backbone = find_backbone(content, own)
        _say(path, backbone.choice)
        found = without_other_classes(backbone.state, network)
        state = _stages_of(found, own) if policy.subset else found
        left_out = [key for key in found if key not in state]
        if policy.resize:
            more = {k: v for k, v in backbone.whole.items() if k not in backbone.state}
            state, problem = adapt(state, network, more)
            policy = replace(policy, advice=f'{policy.advice}{problem}')
        report = load_weights(network, state, policy, part=part)
    _say(path, f'{len(left_out)} left out ({some(left_out)})' if left_out else '')
    return report


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    policy: Policy = PRETRAINED,
    *,
    part: str | None = None,
) -> LoadReport:
    """Copy the tensors of ``state`` into ``module``, name by name; arguments as above.

    Raises:
        ValueError: If too little matches, or the architecture or a shape differs; the message says
            which, with examples.
    """
    own = _part_of(module, part)
    report, reason = compare(_shapes_of(own), state), difference(state, own)
    judged = report.without(_head_of(module)) if policy.new_head else report
    name = type(module).__name__ + (f'.{part}' if part else '')
    if reason or judged.rate < policy.min_match or report.mismatched:
        reason = reason or other_tokens(state, own)
        reason = f'{reason}; ' if reason else ''
        raise ValueError(
            f'the checkpoint does not fit {name}: {reason}{report}; at least '
            f'{policy.min_match:.0%} and every shape must match. {policy.advice}'
        )
    module.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    print_log(f'{name}: {compare(module, state)}', logger='current')
    return report


def compare(own: nn.Module | Shapes, state: Mapping[str, Tensor]) -> LoadReport:
    """What loading ``state`` into a model, or one of these names and shapes, would do."""
    expected = _shapes_of(own.state_dict()) if isinstance(own, nn.Module) else own
    found = _shapes_of(state)
    common = [key for key in expected if key in found]
    return LoadReport(
        matched=[key for key in common if expected[key] == found[key]],
        missing=[key for key in expected if key not in found],
        unexpected=[key for key in found if key not in expected],
        mismatched=[(k, expected[k], found[k]) for k in common if expected[k] != found[k]],
    )


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ', '.join(names[:4]) + (', …' if len(names) > 4 else '')


@contextmanager
def prefix_errors(path: str | Path) -> Iterator[None]:
    """Put the file's path before the message of a ``ValueError``."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def adapt(
    state: Mapping[str, Tensor], model: nn.Module, more: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], str]:
    """Bring what depends on the image size, patch size and channels to that of a timm model.

    timm's rule of the family does it: positions and patches are resampled, the first convolution
    gets other channels, DINOv2's registers other names. Where the file has one table of relative
    positions for all blocks, each gets a copy. A state that fits is returned as it is, and so is
    one that fits no better afterwards: that is for the comparison to report.

    Args:
        state: Of a backbone, in timm's names.
        model: The timm network.
        more: What the file has beside it, such as the mask token by which timm knows DINOv2.

    Returns:
        The state, and the end of a message: what timm raised, if it did.
    """
    state = _copy_shared_table(state, model)
    problem = ''
    if _misfits(state, model):
        try:
            converted = _convert({**(more or {}), **state}, model)
        except Exception as error:  # timm's rules expect a file of their family, and check nothing
            text = (str(error) or type(error).__name__).splitlines()[0]
            problem = f" timm's own conversion of it ends in: {text}"
        else:
            if _misfits(converted, model) < _misfits(state, model):
                shapes = [
                    f'{key} {old} for {tuple(converted[key].shape)}'
                    for key, old in _shapes_of(state).items()
                    if key in converted and old != tuple(converted[key].shape)
                ]
                _say('adapted to the model as timm does', ', '.join(shapes) or 'names')
                state = converted
    return state, problem


def fit_positions(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The state of ``adapt`` alone."""
    return adapt(state, model)[0]


def _misfits(state: Mapping[str, Tensor], model: nn.Module) -> int:
    """How many tensors, but for head and norm, are missing, too many, or of another shape."""
    report = compare(model, state).without(_head_of(model))
    return len(report.mismatched) + max(len(report.missing), len(report.unexpected))


def _head_of(network: nn.Module) -> tuple[str, ...]:
    return (*classifier_prefixes(network), *LAST_NORM)


def _convert(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What timm makes of the weights of a file for a model of its own."""
    rule = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if rule is not None:
        if DINOV2.search(' '.join(state)):
            state.setdefault('mask_token', torch.empty(0))  # extraction drops it
        state = rule(state, model)
    return {**state, **_adapted_stem(state, model)}


def _adapted_stem(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The first convolution with the patch size and the channels of the model."""
    names = getattr(model, 'pretrained_cfg', {}).get('first_conv') or ()
    adapted = {}
    for name in [names] if isinstance(names, str) else names:
        conv, weight = model.get_submodule(name), state.get(f'{name}.weight')
        if not isinstance(conv, nn.Conv2d) or weight is None or weight.ndim != 4:
            continue
        if conv.kernel_size == conv.stride:  # patches
            weight = resample_patch_embed(weight, list(conv.kernel_size))
        channels = conv.in_channels // conv.groups
        adapted[f'{name}.weight'] = adapt_input_conv(channels, weight, base_chans=weight.shape[1])
    return adapted


def fit_model(content: Mapping, model: nn.Module) -> dict[str, Tensor]:
    """The weights in ``content`` under the names and in the sizes of a whole model.

    Args:
        content: Of a checkpoint; one of ours keeps its names.
        model: One of ours; for another, the weights are returned as they are.

    Raises:
        ValueError: If the backbone is of another architecture, or the decoder or mask token of a
            model that reconstructs is missing or of another size.
    """
    network = getattr(getattr(model, 'backbone', None), 'model', None)
    if not isinstance(network, nn.Module):
        return tensors_in(content)
    state, own = _in_our_names(content, network), model.state_dict()
    found = {
        key[len(BACKBONE) :]: value for key, value in state.items() if key.startswith(BACKBONE)
    }
    found = fit_positions(found, network)
    if reason := difference(found, network.state_dict()):
        raise ValueError(f'{reason}; choose the config of the model that the file is of')
    others = {key: value for key, value in state.items() if not key.startswith(BACKBONE)}
    state = {**others, **{f'{BACKBONE}{key}': value for key, value in found.items()}}
    check_parts(state, own)
    if is_ours(content) or any(key.startswith(DECODER) for key in own):
        return state
    unused = (*LEFTOVERS, DECODER) if is_of_mae(content) else LEFTOVERS
    return {k: v for k, v in state.items() if k in own or not k.startswith(unused)}


def check_parts(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights that lack the decoder or the mask token of a model that reconstructs.

    They are a few tensors of hundreds, so that a share of matches would not show it.

    Args:
        state: In the names of our models.
        own: ``state_dict()`` of one; without a decoder nothing is checked.

    Raises:
        ValueError: If a part is missing, or the mask token has other parameters.
    """
    if not any(key.startswith(DECODER) for key in own):
        return
    if not any(key.startswith(DECODER) and key in own for key in state):
        raise ValueError(
            'the file has a backbone but no decoder of this kind, and without one nothing can be '
            'reconstructed: give a file of a whole pre-training, or start from the backbone with '
            '--pretrained'
        )
    for part, what in ((DECODER, 'decoder'), (TOKEN, 'mask token')):
        found, expected = (
            {key: tuple(value.shape) for key, value in tensors.items() if key.startswith(part)}
            for tensors in (state, own)
        )
        if found != expected:
            raise ValueError(
                f'the file has the {what} {found or "(none)"}, the model {expected or "(none)"}; '
                'set mask_after, mask_token.gamma_init and the decoder as they were in '
                'pre-training, or start from the backbone with --pretrained'
            )


def classifier_prefixes(network: nn.Module) -> tuple[str, ...]:
    """How the names of a timm network's classifier begin."""
    names = getattr(network, 'pretrained_cfg', {}).get('classifier') or ()
    return tuple(f'{name}.' for name in ([names] if isinstance(names, str) else names))


def without_other_classes(
    state: Mapping[str, Tensor], model: nn.Module, prefix: str = ''
) -> dict[str, Tensor]:
    """Leave the classifier out where ``model`` has none, or another number of classes.

    Args:
        state: In the names of ``model``.
        model: A timm network, or one of our models.
        prefix: Where timm's network is in ours.
    """
    own = model.state_dict()
    dropped = [
        key
        for key in _classifier_keys(state, model, prefix)
        if key not in own or state[key].shape != own[key].shape
    ]
    if dropped:
        print_log(
            f'classifier not loaded (the model has another number of classes): {some(dropped)}',
            logger='current',
        )
    return {key: tensor for key, tensor in state.items() if key not in dropped}


def check_classes(state: Mapping[str, Tensor], model: nn.Module, prefix: str = '') -> None:
    """Refuse a classifier of another number of classes; arguments as above.

    Raises:
        ValueError: If ``state`` has one.
    """
    own = model.state_dict()
    for key in _classifier_keys(state, model, prefix):
        if key in own and len(state[key]) != len(own[key]):
            found, expected = len(state[key]), len(own[key])
            raise ValueError(
                f'the classifier of the file has {found} classes, that of the model {expected}: '
                f'set model.backbone.num_classes={found} (load_model: num_classes={found}), or '
                'train one from its backbone with tools/train.py CONFIG --pretrained FILE'
            )


def _classifier_keys(state: Mapping[str, Tensor], model: nn.Module, prefix: str) -> list[str]:
    network = model.get_submodule(prefix.rstrip('.')) if prefix else model
    starts = tuple(f'{prefix}{start}' for start in classifier_prefixes(network))
    return [key for key in state if key.startswith(starts)]


def _part_of(module: nn.Module, part: str | None) -> dict[str, Tensor]:
    own = module.state_dict()
    return own if part is None else {k: v for k, v in own.items() if k.startswith(f'{part}.')}


def _stages_of(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole backbone, the stages that a model has, without tables if it has none."""
    tables = any(key.endswith(TABLE) for key in own)
    state = {key: value for key, value in state.items() if tables or not key.endswith(TABLE)}
    if architecture(own) not in (None, architecture(state)):
        return state  # for the comparison to report
    stages = {key.split('.')[0] for key in (*own, *([SHARED] if tables else []))}
    stages |= {'register_tokens'} if 'reg_token' in own else set()  # before timm converts it
    return {key: value for key, value in state.items() if key.split('.')[0] in stages}


def _copy_shared_table(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The one table of BEiT's pre-training for every block of a model with a table each."""
    state = dict(state)
    own = model.state_dict()
    if SHARED in state and SHARED not in own:
        shared = state.pop(SHARED)
        for name in own:
            if name.endswith(f'.attn.{TABLE}'):
                state[name] = shared
    return state


def _in_our_names(content: Mapping, network: nn.Module) -> dict[str, Tensor]:
    if is_ours(content):
        return {unwrap(key): tensor for key, tensor in tensors_in(content).items()}
    imported = import_weights(content, network.state_dict())
    names = imported.backbone.family or 'names of timm'
    _say('weights', imported.backbone.choice)
    print_log(
        f'translated {len(imported.state)} tensors ({names}); '
        f'left out {len(imported.dropped)} ({some(imported.dropped)})',
        logger='current',
    )
    return imported.state


def _say(path: str | Path, text: str) -> None:
    if text:
        print_log(f'{path}: {text}', logger='current')


def _shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _count(keys: list[str]) -> int:
    return sum(not key.endswith('num_batches_tracked') for key in keys)
