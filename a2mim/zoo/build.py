"""From a recipe or a trunk's shapes to a module, and from a state into it."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.registry import DefaultScope
from torch import Tensor, nn

from a2mim.checkpoint import load_weights
from a2mim.registry import MODELS
from a2mim.zoo.model_config import InputSpec, input_spec, model_config


def build_model(recipe: Mapping, num_classes: int | None = None) -> nn.Module:
    """The model of a recipe, with random weights, in evaluation mode."""
    model = in_scope(model_config(recipe, num_classes))
    model.input_spec = input_spec(recipe)
    return model.eval()


def build_trunk(backbone: dict, data_preprocessor: dict, spec: InputSpec) -> nn.Module:
    """A ``TimmBackbone`` without a mask token, which knows how its images are prepared."""
    options = {key: value for key, value in backbone.items() if not key.startswith('mask_')}
    trunk = in_scope({**options, 'num_classes': 0})
    trunk.data_preprocessor = in_scope(data_preprocessor)  # adds nothing to its state_dict
    trunk.input_spec = spec
    return trunk.eval()


def in_scope(config: dict) -> nn.Module:
    """Build where no Runner has said in which registry to look."""
    with DefaultScope.overwrite_default_scope('a2mim'):
        return MODELS.build(config)


def load_all(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state of which every tensor must fit.

    Raises:
        ValueError: If one does not.
    """
    try:
        load_weights(module, state, min_match=1.0)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def classifier_keys(timm_model: nn.Module) -> tuple[str, ...]:
    """How the keys of the classifier of a timm model begin."""
    names = timm_model.pretrained_cfg.get('classifier') or ()
    return tuple(f'{name}.' for name in ([names] if isinstance(names, str) else names))
