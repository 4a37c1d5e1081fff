"""A checkpoint of another system as one of ours: trunk, mask token, gamma and decoder.

In our models the trunk is ``backbone.model``, in timm's names, the token ``backbone.mask_token``
and the decoder ``neck``. Copies that an average keeps beside the weights (``ema_…``) are left out:
in published files the ordinary keys hold the average.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from a2mim.checkpoint.architecture import architecture, classifier_of
from a2mim.checkpoint.key_maps import CLASSIFIER, PARTS, rename
from a2mim.checkpoint.trunk import Trunk, find_trunk, tensors_in, unwrap

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
