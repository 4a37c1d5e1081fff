"""Weights of any system for one whole model of ours, or the reason why they are not for it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.logging import print_log
from torch import Size, Tensor, nn

from a2mim.weights.names import (
    DECODER,
    TOKEN,
    TRUNK,
    difference,
    import_weights,
    is_ours,
    tensors_in,
    unwrap,
)

# [matching]
# Load weights and say which came from where; refuse where too few match.


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a module and of a state.

    Attributes:
        matched: Loaded.
        missing: In the module only; they keep their values.
        unexpected: In the state only.
        mismatched: In both with another shape: name, shape in the module, shape in the state.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, Size, Size]]

    @property
    def rate(self) -> float:
        """Share of matched tensors, of the larger of module and state.

        The larger, because a ResNet-101 fills a ResNet-50 completely and is wrong all the same.
        BatchNorm's step counters, which old files lack, do not count.
        """
        matched = _count(self.matched)
        rest = max(_count(self.missing), _count(self.unexpected)) + len(self.mismatched)
        return matched / max(matched + rest, 1)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} tensors loaded, {self.rate:.0%} match']
        shapes = [f'{name} {tuple(new)} for {tuple(own)}' for name, own, new in self.mismatched]
        for title, names in (
            ('kept as they were', self.missing),
            ('not used', self.unexpected),
            ('of another shape', shapes),
        ):
            if names:
                more = ', …' if len(names) > 4 else ''
                parts.append(f'{len(names)} {title} ({", ".join(names[:4])}{more})')
        return '; '.join(parts)


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], min_match: float = 0.9
) -> LoadReport:
    """Copy the tensors of ``state`` into ``module``, name by name.

    Args:
        module: Unchanged where this raises.
        state: Tensors in the names of ``module``.
        min_match: Least ``LoadReport.rate``; the default leaves room for a new head and norm.

    Raises:
        ValueError: If less matches, or the architecture or a shape differs; the message says
            which, with examples.
    """
    report, reason = compare(module, state), difference(state, module.state_dict())
    if reason or report.rate < min_match or report.mismatched:
        reason = f'{reason}; ' if reason else ''
        raise ValueError(
            f'the checkpoint does not fit {type(module).__name__}: {reason}{report}; at least '
            f'{min_match:.0%} and every shape must match. Is it of another architecture?'
        )
    module.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    print_log(f'{type(module).__name__}: {report}', logger='current')
    return report


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """What loading ``state`` into ``module`` would do."""
    own = {key: tensor.shape for key, tensor in module.state_dict().items()}
    common = [key for key in own if key in state]
    return LoadReport(
        matched=[key for key in common if own[key] == state[key].shape],
        missing=[key for key in own if key not in state],
        unexpected=[key for key in state if key not in own],
        mismatched=[
            (key, own[key], state[key].shape) for key in common if own[key] != state[key].shape
        ],
    )


def _count(keys: list[str]) -> int:
    return sum(not key.endswith('num_batches_tracked') for key in keys)


# [positions]
# Positions of one image size for a timm model of another: embeddings and relative tables.


TABLE = 'relative_position_bias_table'
SHARED = f'rel_pos_bias.{TABLE}'


def fit_positions(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give every block of ``model`` its own table where the file shares one, and resize.

    timm's rule of the family interpolates, bicubic for embeddings; extra rows of tables and class
    tokens stay as they are. A state that fits is returned as it is, and so is one in which other
    things differ too: that is for the comparison to report.
    """
    state = copy_shared_table(state, model)
    report = compare(model, state)
    names = [name for name, _, _ in report.mismatched]
    # timm asks the model for the block of each table.
    astray = any(name.endswith(TABLE) for name in report.unexpected)
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if not names or convert is None or astray or not all('pos' in name for name in names):
        return state
    return convert(dict(state), model)


def copy_shared_table(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The one table of BEiT's pre-training for every block of a model with a table each."""
    state = dict(state)
    own = model.state_dict()
    if SHARED in state and SHARED not in own:
        shared = state.pop(SHARED)
        for name in own:
            if name.endswith(f'.attn.{TABLE}'):
                state[name] = shared
    return state


def fit_model(content: Mapping, model: nn.Module) -> dict[str, Tensor]:
    """The weights in ``content`` under the names and in the sizes of ``model``.

    Args:
        content: Of a checkpoint; one of ours keeps its names.
        model: One of ours; another is returned its weights as they are.

    Raises:
        ValueError: If the trunk is of another architecture.
    """
    trunk = getattr(getattr(model, 'backbone', None), 'model', None)
    if not isinstance(trunk, nn.Module):
        return tensors_in(content)
    state = _in_our_names(content)
    found = {key[len(TRUNK) :]: value for key, value in state.items() if key.startswith(TRUNK)}
    others = {key: value for key, value in state.items() if not key.startswith(TRUNK)}
    found = fit_positions(found, trunk)
    reason = difference(found, trunk.state_dict())
    if reason:
        raise ValueError(f'{reason}; choose the config of the model that the file is of')
    return {**others, **{f'{TRUNK}{key}': value for key, value in found.items()}}


def _in_our_names(content: Mapping) -> dict[str, Tensor]:
    if is_ours(content):
        return {unwrap(key): tensor for key, tensor in tensors_in(content).items()}
    imported = import_weights(content)
    print_log(
        f'translated {len(imported.state)} tensors ({imported.trunk.family or "names of timm"}); '
        f'left out {len(imported.dropped)}: {", ".join(imported.dropped[:4]) or "none"}',
        logger='current',
    )
    return imported.state


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
    if not any(key.startswith(DECODER) for key in state):
        raise ValueError(
            'the file has a trunk but no decoder, and without one nothing can be reconstructed: '
            'give a file of a whole pre-training, or start from the trunk with --pretrained'
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
                'pre-training, or start from the trunk with --pretrained'
            )


# [classes]
# The classifier of a file, and that of a model: they may differ in their number of classes.


def without_other_classes(
    state: Mapping[str, Tensor], model: nn.Module, prefix: str = ''
) -> dict[str, Tensor]:
    """Leave the classifier out where the file has another number of classes than ``model``.

    Args:
        state: In the names of ``model``.
        model: A timm model, or one of ours.
        prefix: Where timm's model is in ours.
    """
    dropped = differing(state, model, prefix)
    if dropped:
        print_log(f'another number of classes: {", ".join(dropped)} stay new', logger='current')
    return {key: tensor for key, tensor in state.items() if key not in dropped}


def check_classes(state: Mapping[str, Tensor], model: nn.Module, prefix: str = '') -> None:
    """Refuse a classifier of another number of classes; arguments as above.

    Raises:
        ValueError: If ``state`` has one.
    """
    for key in differing(state, model, prefix):
        found, expected = len(state[key]), len(model.state_dict()[key])
        raise ValueError(
            f'the classifier of the file has {found} classes, that of the model {expected}: set '
            f'model.backbone.num_classes={found}, or train one from its trunk with --pretrained'
        )


def differing(state: Mapping[str, Tensor], model: nn.Module, prefix: str = '') -> list[str]:
    """Parameters of the classifier that are of another shape in ``state``."""
    own = model.state_dict()
    trunk = model.get_submodule(prefix.rstrip('.')) if prefix else model
    names = getattr(trunk, 'pretrained_cfg', {}).get('classifier') or ()
    names = [names] if isinstance(names, str) else names
    keys = [f'{prefix}{name}.{leaf}' for name in names for leaf in ('weight', 'bias')]
    return [
        key for key in keys if key in state and key in own and state[key].shape != own[key].shape
    ]
