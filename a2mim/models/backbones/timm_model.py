"""timm models by name, and their parts by path: errors here say which names were meant."""

from difflib import get_close_matches

import timm
from torch import nn

from a2mim.checkpoint.trust import weights_only_switch


def create_trunk(model_name: str, **timm_kwargs: object) -> nn.Module:
    """``timm.create_model`` with errors that help.

    Raises:
        ValueError: If timm has no such model, or none with these options, or a file is named that
            timm would read by itself.
        TypeError: If the model does not take one of the options.
    """
    # Names such as hf-hub:… are looked up elsewhere.
    if ':' not in model_name and not timm.is_model(model_name):
        close = get_close_matches(model_name.split('.')[0], timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f'timm {timm.__version__} has no model {model_name!r}; close to it: '
            f'{", ".join(close) or "nothing"}; timm.list_models() has all'
        )
    if 'checkpoint_path' in timm_kwargs:
        raise ValueError(
            f'checkpoint_path={timm_kwargs["checkpoint_path"]!r} would pass by the checks of this '
            "package; use init_cfg=dict(type='Pretrained', checkpoint=PATH)"
        )
    try:
        with weights_only_switch('1'):  # for what pretrained=True reads
            return timm.create_model(model_name, **timm_kwargs)
    except TypeError as error:
        raise TypeError(
            f'{model_name} does not take the options {sorted(timm_kwargs)}: {error}; '
            'an option of TimmBackbone may be misspelt'
        ) from error
    except AssertionError as error:
        raise ValueError(
            f'timm builds no {model_name} with the options {timm_kwargs}: {error}'
        ) from error


def create_trunk_for_any_size(model_name: str, **timm_kwargs: object) -> nn.Module:
    """``create_trunk`` for images of changing size, where timm offers that for the family.

    The weights and their names are the same. What it does not offer it for either needs no such
    option, as a convolutional network, or must be helped from outside.
    """
    try:
        return create_trunk(model_name, **{'dynamic_img_size': True, **timm_kwargs})
    except TypeError:
        return create_trunk(model_name, **timm_kwargs)


def find_module(model: nn.Module, place: str | int) -> tuple[str, nn.Module]:
    """Path and module that ``place`` means: a module path, or an index into ``feature_info``.

    Raises:
        ValueError: If there is no such module or no such index.
    """
    stages = [info['module'] for info in getattr(model, 'feature_info', [])]
    if isinstance(place, int):
        if not -len(stages) <= place < len(stages):
            raise ValueError(
                f'mask_after={place} is no index into the {len(stages)} stages {stages}'
            )
        place = stages[place]
    modules = dict(model.named_modules())
    if place not in modules or not place:
        close = get_close_matches(place, modules, n=5)
        raise ValueError(
            f'{type(model).__name__} has no module {place!r}; close to it: '
            f'{", ".join(close) or "nothing"}; its stages are {", ".join(stages)}'
        )
    return place, modules[place]


def last_block(module: nn.Module) -> nn.Module:
    """The module whose output is ``module``'s output and which timm calls in every mode.

    With gradient checkpointing timm calls the blocks of a Sequential one by one, so that a hook
    on the container would be skipped without any error.
    """
    while type(module).forward is nn.Sequential.forward and len(module):
        module = module[-1]
    return module


def enable_checkpointing(model: nn.Module) -> None:
    """Switch gradient checkpointing on.

    Raises:
        ValueError: If timm has none for this family.
    """
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise ValueError(
            f'timm has no gradient checkpointing for {type(model).__name__}; '
            'use grad_checkpointing=False'
        ) from error


def prefers_channels_last(model: nn.Module) -> bool:
    """Whether a trunk is convolutional: a 2-D convolution looks beyond its own stride.

    Patch embeddings and projections do not; stems, stages and depth-wise convolutions do.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(max(conv.kernel_size) > min(conv.stride) for conv in convolutions)
