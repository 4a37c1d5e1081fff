"""Options of timm models: apply None, leave out the final norm, refuse options without effect."""

import dis
import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, model_entrypoint, split_model_name_tag
from torch import nn

# What timm reads itself, before any model class: weights, their files and their description.
BUILDER_OPTIONS = {
    name
    for function in (timm.create_model, build_model_with_cfg)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
} | {'features_only', 'pruned', 'out_indices', 'feature_cls'}


def build_with_options(model_name: str, options: Mapping[str, Any]) -> nn.Module:
    """``timm.create_model``, but an option of the model that is None reaches the model.

    timm drops it, and so ``ls_init_value=None`` would build a ConvNeXt with layer scale.

    Raises:
        TypeError: If an option is None and the model is one of a hub.
    """
    options = {
        name: value
        for name, value in options.items()
        if value is not None or name not in BUILDER_OPTIONS
    }
    missing = sorted(name for name, value in options.items() if value is None)
    if not missing:
        return timm.create_model(model_name, **options)
    if ':' in model_name:
        raise TypeError(f'timm drops {missing} = None for models of a hub; give a name of timm')
    name, tag = split_model_name_tag(model_name)
    return model_entrypoint(name)(**{'pretrained_cfg': tag or None, **options})


def remove_final_norm(model: nn.Module) -> None:
    """Replace the norm after the last block by the identity, in families without that option.

    Raises:
        TypeError: If there is no such norm.
    """
    for parent in (model, getattr(model, 'head', None)):
        norm = getattr(parent, 'norm', None)
        if isinstance(parent, nn.Module) and norm and not isinstance(norm, nn.Identity):
            parent.norm = nn.Identity()
            return
    raise TypeError(
        f'final_norm=False: {type(model).__name__} has no norm after its last block; leave it out'
    )


def refuse_unused_options(model: nn.Module, model_name: str, options: Mapping[str, Any]) -> None:
    """Check that ``model`` shows every one of ``options``, with which timm built it.

    timm drops some options, and some models accept one and never read it. An option that no
    constructor of the model reads must change the structure of the model, by its value or, where
    that may be the default, by another one.

    Raises:
        TypeError: If one changes nothing.
    """
    for name, value in options.items():
        neutral = (name, value) in (('num_classes', 0), ('global_pool', ''))  # set by TimmBackbone
        if neutral or name in BUILDER_OPTIONS or _is_read(type(model), name):
            continue
        others = {key: item for key, item in options.items() if key not in (name, 'pretrained')}
        different = [others]
        if isinstance(value, bool | int | float):
            different.append({**others, name: not value if value in (0, 1) else value + 1})
        if all(_same_structure(model, model_name, other) for other in different):
            raise TypeError(
                f'{name}={value!r} has no effect on {model_name}: {type(model).__name__} does not '
                f'use it; leave {name} out'
            )


def _same_structure(model: nn.Module, model_name: str, options: Mapping[str, Any]) -> bool:
    """Whether timm builds the structure of ``model`` with these options, too."""
    try:
        return _structure(_blank(model_name, options)) == _structure(model)
    except Exception:  # of any type: they do not fit each other, so that a constructor reads them
        return False


def _is_read(model_class: type, name: str) -> bool:
    """Whether a constructor has a parameter ``name`` and reads it."""
    for base in model_class.__mro__:
        init = vars(base).get('__init__')
        if not inspect.isfunction(init):
            continue
        parameters = inspect.signature(init).parameters
        if name in parameters:
            loads = [code.argval for code in dis.get_instructions(init) if 'LOAD' in code.opname]
            # From Python 3.13 on, one instruction loads two variables.
            return any(name in (load if isinstance(load, tuple) else (load,)) for load in loads)
        if not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            return False
    return False


def _blank(model_name: str, options: Mapping[str, Any]) -> nn.Module:
    """Such a model without values of weights, where timm can build it so."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device('meta'):
                return build_with_options(model_name, options)
        except Exception:  # of any type: a constructor that reads values of tensors
            return build_with_options(model_name, options)


def _structure(model: nn.Module) -> tuple:
    """All that shows of a model but the values of its tensors."""
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    attributes = [
        (path, name, repr(value))
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if not name.startswith('_') and isinstance(value, plain)
    ]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    shapes = [(name, tensor.shape, tensor.requires_grad) for name, tensor in tensors]
    return repr(model), attributes, shapes
