"""Files of weights into models: a whole model where the file holds one, else its trunk."""

from collections.abc import Mapping
from pathlib import Path

import timm
from mmengine.logging import print_log
from torch import Tensor, nn

from a2mim.checkpoint import (
    check_parts,
    find_recipe,
    find_trunk,
    fit_model,
    is_ours,
    load_file,
    tensors_in,
    unwrap,
)
from a2mim.zoo.build import build_model, build_trunk, classifier_keys, load_all
from a2mim.zoo.configs import config_path
from a2mim.zoo.model_config import (
    InputSpec,
    embedded_config,
    input_spec,
    model_config,
    read_config,
)
from a2mim.zoo.table import entries

# Normalisation of the recipes of the paper, in grey levels.
IMAGENET = dict(
    type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
)
# Of pre-training, which fine-tuned ViTs of the published system may carry along unused.
LEFTOVERS = ('backbone.mask_token.', 'backbone.model.norm.')


class NoRecipeError(ValueError):
    """A file of weights does not say which model it holds, and nobody else did."""


def load_model_file(
    path: Path, recipe: dict | None, num_classes: int | None, *, pretrained: bool
) -> nn.Module:
    """The model of ``recipe``, or of what the file says of itself, with the weights in it.

    Not ``pretrained``: the same model, and random weights.

    Raises:
        ValueError: If the file is no checkpoint, does not say what it holds, or does not fit.
    """
    content = load_file(path)
    recipe = recipe or embedded_config(path, content) or _recipe_by_name(path)
    if not any(unwrap(key).startswith('backbone.') for key in tensors_in(content)):
        return _load_trunk(path, content, recipe, num_classes, pretrained)
    if recipe is None:
        raise NoRecipeError(
            f'{path} holds a whole model and does not say which; pass config=, the path of its '
            "recipe, such as 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'"
        )
    model = build_model(recipe, num_classes)
    if not pretrained:
        return model
    state = _fitted(content, path, model)
    _check_classes(model, state, path)
    load_all(model, state, path)
    return model


def _load_trunk(
    path: Path, content: Mapping, recipe: dict | None, num_classes: int | None, pretrained: bool
) -> nn.Module:
    """A trunk alone: the file has no mask token and no decoder, and none are made up."""
    if num_classes is not None:
        raise ValueError(
            f'num_classes={num_classes}: {path} holds a trunk without a classifier of ours; train '
            f'one with tools/train.py CONFIG --pretrained {path}'
        )
    trunk = find_trunk(content)
    if recipe is not None:
        options = model_config(recipe)
        model = build_trunk(options['backbone'], options['data_preprocessor'], input_spec(recipe))
    elif (found := find_recipe(content, trunk)) and timm.is_model(found[0]):
        print_log(
            f'{path} does not say how its images were normalised: mean and standard deviation of '
            'ImageNet are taken; pass config= for others',
            logger='current',
        )
        options = dict(type='TimmBackbone', model_name=found[0], **found[1])
        model = build_trunk(options, IMAGENET, InputSpec())
    else:
        raise NoRecipeError(
            f'{path} holds a trunk and does not say which; pass config=, the path of the recipe '
            f'that it was trained with. Its keys are such as {trunk.kept[:3]}'
        )
    classifier = classifier_keys(model.model)
    state = {key: value for key, value in trunk.state.items() if not key.startswith(classifier)}
    if pretrained:
        load_all(model.model, state, path)
    return model


def _check_classes(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Say of a classifier of other classes that it is one, not that a shape differs."""
    for name in classifier_keys(model.backbone.model):
        key = f'backbone.model.{name}bias'
        own = model.state_dict().get(key)
        if own is not None and key in state and len(state[key]) != len(own):
            raise ValueError(
                f'{path} tells {len(state[key])} classes apart, not {len(own)}: pass num_classes='
                f'{len(state[key])} to take it as it is; for a classifier of {len(own)} classes, '
                f'train one with tools/train.py CONFIG --pretrained {path}'
            )


def _fitted(content: Mapping, path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The weights in the names and sizes of ``model``; published classifiers lose leftovers."""
    try:
        state = fit_model(content, model)
        check_parts(state, model.state_dict())
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if is_ours(content) or not hasattr(model, 'classifier_loss'):
        return state
    own = model.state_dict()
    return {key: state[key] for key in state if key in own or not key.startswith(LEFTOVERS)}


def _recipe_by_name(path: Path) -> dict | None:
    """The recipe of a released file, which its name tells."""
    found = [entry for entry in entries() if entry.file == path.name]
    return read_config(config_path(found[0].config)) if found else None
