"""Layer-wise learning rates: the nearer a layer is to the image, the slower it learns."""

from collections.abc import Sequence

from timm.models import group_parameters
from torch import nn


def layer_lr_factors(
    model: nn.Module, decay: float, layers: Sequence[str] | None = None
) -> dict[str, float]:
    """Learning-rate factor of every parameter of the timm model inside ``model``.

    The last layer (head and whatever no pattern matches) has factor 1, each layer below it
    ``decay`` times the one above. Parameters outside the timm model are not in the result.

    timm's own layers equal the published ones for its ViTs and ``Beit`` (embeddings, each block,
    head), unless a class token is read behind a last norm: timm counts that norm to the last block,
    the published recipe to the head. They differ for Swin (what merges patches), and for ConvNeXt:
    timm counts every block, the published recipe counts stage 0, stage 1, threes of blocks of stage
    2, and stage 3. Such a recipe gives ``layers``.

    Args:
        model: A timm model, or a module that holds one.
        decay: Factor from one layer to the next lower one, in (0, 1].
        layers: Regular expressions, from the stem up, matched at the start of the names inside
            the timm model. None takes the ``group_matcher`` of the model.

    Raises:
        ValueError: If ``decay`` is outside (0, 1], or there is no timm model with layers.

    Reference:
        Clark et al., ELECTRA, ICLR 2020 (https://arxiv.org/abs/2003.10555), for the decay.
    """
    if not 0 < decay <= 1:
        raise ValueError(f'layer_decay={decay} must lie in (0, 1]; the published ViTs use 0.65')
    prefix, trunk = _timm_model(model)
    matcher = dict(enumerate(layers)) if layers else trunk.group_matcher(coarse=False)
    layer_of = group_parameters(trunk, matcher, reverse=True)
    top = max(layer_of.values())
    return {prefix + name: decay ** (top - layer) for name, layer in layer_of.items()}


def _timm_model(model: nn.Module) -> tuple[str, nn.Module]:
    """The first module that knows its layers, and the prefix of its parameters' names."""
    for name, module in model.named_modules():
        if hasattr(module, 'group_matcher'):
            return f'{name}.' if name else '', module
    raise ValueError(
        f'layer_decay needs a timm model with a group_matcher, and {type(model).__name__} holds '
        'none; leave layer_decay out'
    )
