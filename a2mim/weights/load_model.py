"""A model out of a released name, a file of weights or a config, without a Runner.

A checkpoint carries its config as text from a stranger: ``recipe.build_model`` builds from it, and
accepts models of this package alone. A config that the user names is a program of the user's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from timm.data.config import resolve_model_data_config
from torch import nn

from a2mim.interfaces import Algorithm, MaskedBackbone
from a2mim.options import LATEST
from a2mim.registry import MODELS
from a2mim.weights.config_files import read_config
from a2mim.weights.fit import (
    COMPLETE,
    check_classes,
    fit_model,
    load_backbone,
    load_weights,
    prefix_errors,
)
from a2mim.weights.names import BACKBONE, find_backbone, is_of_mae, tensors_in, unwrap
from a2mim.weights.recipe import build_model as build_from_file
from a2mim.weights.recipe import embedded_values, find_recipe, without_initialisers
from a2mim.weights.released import (
    config_path,
    entries,
    find_config,
    find_entry,
    list_models,
    local_file,
    recipe_files,
)
from a2mim.weights.safe_load import asked_weights, checkpoint_of, choose_weights, load_file

Builder = Callable[[dict], nn.Module]
SUFFIXES = ('.pth', '.pt', '.safetensors')
# Normalisation of the configs of the paper, for pixel values in [0, 255].
IMAGENET = dict(
    type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
)


class NoRecipeError(ValueError):
    """A file of weights does not say which model it holds, and nobody else did."""


@dataclass(frozen=True)
class InputSpec:
    """What a model was trained on.

    Attributes:
        image_size: (H, W) in pixels.
        block_size: Pixels of a side of a mask block.
        ratio: Share of masked blocks.
        layout: Which bands or page of a file were read, as arguments of ``read_image``.
    """

    image_size: tuple[int, int] = (224, 224)
    block_size: int | tuple[int, int] = 32
    ratio: float = 0.6
    layout: dict[str, Any] = field(default_factory=dict)


def load_model(
    name_or_path: str | Path,
    *,
    pretrained: bool = True,
    config: str | Path | None = None,
    num_classes: int | None = None,
    weights: str | None = None,
) -> nn.Module:
    """A plain module in evaluation mode, which ``features`` and ``reconstruct`` understand.

    Args:
        name_or_path: A released name (``list_models()``); a file of weights: a checkpoint of ours,
            whole, published or the backbone alone, or one of OpenMixup; the folder of a run, whose
            last checkpoint is taken; a config (``.py``), which
            is run; the name of a recipe (``a2mim recipes ls``); or the name of a timm model.
        pretrained: With weights; False, which a config or recipe needs: the same model with random
            ones. Those of a timm model are downloaded by timm.
        config: Config of a file of weights that carries none: a path ending in ``.py``, or one
            below ``configs/`` without suffix.
        num_classes: Of a classifier; with weights, it must be that of the file.
        weights: ``'averaged'`` or ``'raw'``: which are taken where a file has both; None: the
            averaged ones.

    Returns:
        ``A2MIM``, ``MAE`` or another algorithm, ``ImageClassifier``, or of a file with a backbone
        alone and of a timm model ``TimmBackbone``. Its ``input_spec`` says what images it was
        trained on.

    Raises:
        KeyError: If nothing has this name.
        FileNotFoundError, ConnectionError: If it is not found or cannot be downloaded.
        ValueError: If it is no checkpoint, asks to run code, or does not fit its config.
    """
    with choose_weights(weights or asked_weights()):
        return _load(name_or_path, pretrained, config, num_classes)


def _load(
    name_or_path: str | Path, pretrained: bool, config: str | Path | None, num_classes: int | None
) -> nn.Module:
    path = Path(name_or_path)
    run = (path / LATEST).is_file()
    if run or path.suffix in SUFFIXES or (path.is_file() and path.suffix != '.py'):
        return load_model_file(path, _given(config), num_classes, pretrained=pretrained)
    if config is not None:
        raise ValueError(f'config={str(config)!r}: {path} is no file of weights')
    if path.suffix != '.py':
        return _load_by_name(str(name_or_path), pretrained, num_classes)
    return _load_config(_existing(path), pretrained, num_classes)


def _load_by_name(name: str, pretrained: bool, num_classes: int | None) -> nn.Module:
    """The model of a released name, of a recipe or of a name in timm."""
    released = list_models()
    if name in released:
        entry = find_entry(name)
        given = read_config(config_path(entry.config)).to_dict()
        if pretrained:
            return load_model_file(local_file(entry), given, num_classes, pretrained=True)
        return build_model(given, num_classes)
    if timm.is_model(name):
        return _load_timm(name, pretrained, num_classes)
    known = [key for key in recipe_files() if f'/{key}'.endswith(f'/{name}')]
    if known:
        return _load_config(find_config(name), pretrained, num_classes)
    if Path(name).is_dir():
        checkpoint_of(name)  # says what is missing
    stems = [key.rpartition('/')[2] for key in recipe_files()]
    near = get_close_matches(name, [*released, *stems, *timm.list_models()], n=4, cutoff=0.5)
    raise KeyError(
        f'no file and no released model is called {name!r}, nor a recipe or a timm model; close: '
        f'{", ".join(near) or "nothing"}; a2mim.list_models(), `a2mim recipes ls` and '
        'timm.list_models() have all'
    )


def _load_config(path: Path, pretrained: bool, num_classes: int | None) -> nn.Module:
    if pretrained:
        raise ValueError(f'{path} is a config and has no weights: pass pretrained=False')
    return build_model(read_config(path).to_dict(), num_classes)


def _load_timm(name: str, pretrained: bool, num_classes: int | None) -> MaskedBackbone:
    """The backbone of a timm model, whose weights timm downloads."""
    if num_classes is not None:
        raise ValueError(f'num_classes={num_classes}: {name} is taken without its classifier')
    options = dict(type='TimmBackbone', model_name=name, pretrained=pretrained)
    try:
        network = cast(Any, in_scope(options))
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f'{name}: timm does not get its weights ({str(error).splitlines()[0]}); pass '
            'pretrained=False for random ones'
        ) from error
    data = resolve_model_data_config(network.model)
    mean, std = ([255 * value for value in data[key]] for key in ('mean', 'std'))
    network.data_preprocessor = in_scope(dict(type='ImagePreprocessor', mean=mean, std=std))
    network.input_spec = InputSpec(data['input_size'][-2:])
    return network.eval()


def load_model_file(
    path: Path, config: dict | None, num_classes: int | None, *, pretrained: bool
) -> nn.Module:
    """The model of a config, or of what the file says of itself, with the weights in it.

    Not ``pretrained``: the same model, and random weights.

    Raises:
        ValueError: If the file is no checkpoint, does not say what it holds, or does not fit.
    """
    content = load_file(path)
    build: Builder = in_scope
    if config is None and (config := embedded_config(content)):
        # From here on a stranger's words.
        build = partial(build_from_file, held=tensors_in(content), where=path)
    config = config or _config_by_name(path)
    whole = any(unwrap(key).startswith('backbone.') for key in tensors_in(content))
    kind = (config or {}).get('model', {}).get('type')
    if not whole and not (kind == 'MAE' and is_of_mae(content)):
        return _load_trunk(path, content, config, num_classes, pretrained, build)
    if config is None:
        raise NoRecipeError(
            f'{path} holds a whole model and does not say which; pass config=, the path of its '
            "config, such as 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'"
        )
    model = build_model(config, num_classes, build)
    if pretrained:
        with prefix_errors(path):
            state = fit_model(content, model)
            check_classes(state, model, BACKBONE)
            load_weights(model, state, COMPLETE)
    cast(Any, model).dataset_meta = dict(classes=class_names(content))
    return model


def class_names(content: Mapping) -> tuple[str, ...]:
    """The names of the classes that a checkpoint of ours was trained on; empty if it has none."""
    meta = content.get('meta')
    told = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    names = told.get('classes') if isinstance(told, Mapping) else None
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _load_trunk(
    path: Path,
    content: Mapping,
    config: dict | None,
    num_classes: int | None,
    pretrained: bool,
    build: Builder,
) -> nn.Module:
    """A backbone alone: the file has no mask token and no decoder, and none are made up."""
    if num_classes is not None:
        raise ValueError(
            f'num_classes={num_classes}: {path} holds a backbone without a classifier of ours; '
            f'train one with tools/train.py CONFIG --pretrained {path}'
        )
    backbone = find_backbone(content)
    if config is not None:
        options = model_config(config)
        model = build_backbone_alone(
            options['backbone'], options['data_preprocessor'], input_spec(config), build
        )
    elif (found := find_recipe(content, backbone)) and timm.is_model(found[0]):
        print_log(
            f'{path} does not say how its images were normalised: mean and standard deviation of '
            'ImageNet are taken; pass config= for others',
            logger='current',
        )
        options = dict(type='TimmBackbone', model_name=found[0], **found[1])
        build = partial(build_from_file, held=backbone.state, where=path)
        model = build_backbone_alone(options, IMAGENET, InputSpec(), build)
    else:
        raise NoRecipeError(
            f'{path} holds a backbone and does not say which; pass config=, the path of the config '
            f'that it was trained with. Its keys are such as {backbone.kept[:3]}'
        )
    if pretrained:
        load_backbone(model.model, content, path, COMPLETE)
    return model


def in_scope(config: dict) -> nn.Module:
    """Build where no Runner has said in which registry to look."""
    with DefaultScope.overwrite_default_scope('a2mim'):
        return MODELS.build(config)


def build_model(
    config: Mapping, num_classes: int | None = None, build: Builder = in_scope
) -> Algorithm:
    """The model of a config, with random weights, in evaluation mode."""
    model = cast(Algorithm, build(model_config(config, num_classes)))
    model.input_spec = input_spec(config)
    return model.eval()


def build_backbone_alone(
    config: dict, data_preprocessor: dict, spec: InputSpec, build: Builder
) -> MaskedBackbone:
    """A ``TimmBackbone`` without a mask token, which knows how its images are prepared."""
    options = {key: value for key, value in config.items() if not key.startswith('mask_')}
    network = cast(Any, build({**options, 'num_classes': 0}))
    network.data_preprocessor = build(data_preprocessor)  # adds nothing to its state_dict
    network.input_spec = spec
    return network.eval()


def embedded_config(content: Mapping) -> dict[str, Any] | None:
    """The config that a checkpoint of ours carries; None if there is none."""
    config = embedded_values(content)
    return config if config and isinstance(config.get('model'), dict) else None


def model_config(config: Mapping, num_classes: int | None = None) -> dict[str, Any]:
    """The entry ``model`` without initial weights, with another number of classes if asked for.

    Raises:
        ValueError: If there is no model, or ``num_classes`` is given for one that has no classes.
    """
    if not isinstance(config.get('model'), Mapping):
        raise ValueError(f'the config has no model, only {sorted(config)}')
    model = without_initialisers(config['model'])
    if num_classes is None:
        return model
    if not model['backbone'].get('num_classes'):
        raise ValueError(
            f'num_classes={num_classes}: {model["type"]} has no classes; leave it out, or name '
            "a classifier (a2mim.list_models('*_ft_*'))"
        )
    model['backbone']['num_classes'] = num_classes
    if 'mixup' in model['data_preprocessor']:
        model['data_preprocessor']['mixup'] |= dict(num_classes=num_classes)
    return model


def input_spec(config: Mapping) -> InputSpec:
    """Image and mask of pre-training; of a classifier, the size that it is tested at."""
    # CIFAR's images are tested as they are: only the crops of the training tell their size.
    datasets = [
        (config.get(f'{split}_dataloader') or {}).get('dataset', {}) for split in ('val', 'train')
    ]
    for dataset in datasets:
        if mask := dataset.get('mask'):
            size, layout = _pair(mask['image_size']), _layout(dataset)
            return InputSpec(size, mask['block_size'], mask['ratio'], layout)
    for dataset in datasets:
        # A set of images in memory states the size itself.
        steps = [dataset, *dataset.get('pipeline', [])]
        if sizes := [step['size'] for step in steps if 'size' in step]:
            return InputSpec(_pair(sizes[-1]), layout=_layout(dataset))
    return InputSpec()


def _layout(dataset: Mapping) -> dict[str, Any]:
    source = dataset.get('source') or {}
    return {key: source[key] for key in ('bands', 'page', 'axes', 'nodata') if key in source}


def _pair(size: int | list | tuple) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _given(config: str | Path | None) -> dict[str, Any] | None:
    if config is None:
        return None
    path = Path(config)
    file = _existing(path) if path.suffix == '.py' else config_path(str(config))
    return read_config(file).to_dict()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    return path


def _config_by_name(path: Path) -> dict[str, Any] | None:
    """The config of a released file, which its name tells."""
    found = [entry for entry in entries() if entry.file == path.name]
    return read_config(config_path(found[0].config)).to_dict() if found else None
