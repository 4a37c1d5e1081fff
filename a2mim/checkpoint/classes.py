"""The classifier of a file, and that of a model: they may differ in their number of classes."""

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn


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
