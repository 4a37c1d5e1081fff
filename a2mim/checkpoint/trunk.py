"""Find the trunk in a checkpoint of ours, of the published system or of anybody else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from a2mim.checkpoint.key_maps import NOT_IN_TIMM, published_family, to_timm

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
