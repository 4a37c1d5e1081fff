"""Weights from a file into a timm trunk, whatever system wrote the file."""

import sys

from mmengine.logging import print_log
from torch import Tensor, nn

from a2mim.checkpoint import LoadReport, compare, load_file, load_weights, trunk_state


def load_trunk(model: nn.Module, checkpoint: str) -> LoadReport:
    """Load the trunk that the file ``checkpoint`` holds into a timm model.

    Position embeddings and tables are resized to the image size of ``model``. A classifier of
    another number of classes stays out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another architecture.
    """
    state = without_other_classes(trunk_state(load_file(checkpoint)), model)
    try:
        return load_weights(model, resize_positions(state, model))
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from error


def resize_positions(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Interpolate position embeddings and tables to another grid by the rule of timm's family.

    A state that fits is returned as it is, and so is one in which other shapes differ too.
    """
    names = [name for name, _, _ in compare(model, state).mismatched]
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if not names or convert is None or not all('pos' in name for name in names):
        return state
    return convert(dict(state), model)


def without_other_classes(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Leave the classifier out where the file has another number of classes than ``model``."""
    own = model.state_dict()
    names = model.pretrained_cfg.get('classifier') or ()
    starts = tuple(f'{name}.' for name in ([names] if isinstance(names, str) else names))
    dropped = [
        key
        for key, tensor in state.items()
        if key.startswith(starts) and key in own and own[key].shape != tensor.shape
    ]
    if dropped:
        print_log(f'another number of classes: {", ".join(dropped)} stay new', logger='current')
    return {key: tensor for key, tensor in state.items() if key not in dropped}
