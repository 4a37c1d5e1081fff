"""Weights of any system for one whole model of ours, or the reason why they are not for it."""

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from a2mim.checkpoint.architecture import difference
from a2mim.checkpoint.importing import DECODER, TOKEN, TRUNK, import_weights, is_ours
from a2mim.checkpoint.positions import fit_positions
from a2mim.checkpoint.trunk import tensors_in, unwrap


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
