"""From the names of other systems to those of timm, and of whole models to ours."""

import re
from collections.abc import Container

from torch import Tensor

from a2mim.checkpoint.families import FAMILIES, Rules

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
