"""A model out of a released name, a file of weights or a config, without a Runner.

A checkpoint carries its config as text from a stranger. It is parsed as literals, and only models
of this package are built from it: mmengine would import and call any dotted name in a ``type``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import timm
from mmengine import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from a2mim.interfaces import Algorithm, MaskedBackbone
from a2mim.registry import MODELS
from a2mim.weights.fit import (
    COMPLETE,
    check_classes,
    fit_model,
    load_backbone,
    load_weights,
    prefix_errors,
)
from a2mim.weights.names import BACKBONE, find_backbone, tensors_in, unwrap
from a2mim.weights.recipe import embedded_values, find_recipe
from a2mim.weights.released import config_path, entries, find_entry, local_file
from a2mim.weights.safe_load import load_file

SUFFIXES = ('.pth', '.pt', '.safetensors')
# Initial weights: those of the checkpoint replace them, and a file of that name is not wanted.
INITIALISERS = ('init_cfg', 'pretrained', 'checkpoint_path', 'pretrained_cfg')
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
) -> nn.Module:
    """A plain module in evaluation mode, which ``features`` and ``reconstruct`` understand.

    Args:
        name_or_path: A released name (``list_models()``); a file of weights: a checkpoint of ours,
            whole, published or the backbone alone, or one of OpenMixup; or a config (``.py``),
            which is run.
        pretrained: With weights; False, which a config needs: the same model with random ones.
        config: Config of a file of weights that carries none: a path ending in ``.py``, or one
            below ``configs/`` without suffix.
        num_classes: Of a classifier; with weights, it must be that of the file.

    Returns:
        ``A2MIM``, ``SimMIM``, ``ImageClassifier``, or of a file with a backbone alone
        ``TimmBackbone``. Its ``input_spec`` says what images it was trained on.

    Raises:
        KeyError: If nothing has this name.
        FileNotFoundError, ConnectionError: If it is not found or cannot be downloaded.
        ValueError: If it is no checkpoint, asks to run code, or does not fit its config.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or (path.is_file() and path.suffix != '.py'):
        return load_model_file(path, _given(config), num_classes, pretrained=pretrained)
    if config is not None:
        raise ValueError(f'config={str(config)!r}: {path} is no file of weights')
    if path.suffix != '.py':
        entry = find_entry(str(name_or_path))
        given = read_config(config_path(entry.config))
        if pretrained:
            return load_model_file(local_file(entry), given, num_classes, pretrained=True)
        return build_model(given, num_classes)
    if pretrained:
        raise ValueError(f'{path} is a config and has no weights: pass pretrained=False')
    return build_model(read_config(_existing(path)), num_classes)


def load_model_file(
    path: Path, config: dict | None, num_classes: int | None, *, pretrained: bool
) -> nn.Module:
    """The model of a config, or of what the file says of itself, with the weights in it.

    Not ``pretrained``: the same model, and random weights.

    Raises:
        ValueError: If the file is no checkpoint, does not say what it holds, or does not fit.
    """
    content = load_file(path)
    config = config or embedded_config(path, content) or _config_by_name(path)
    if not any(unwrap(key).startswith('backbone.') for key in tensors_in(content)):
        return _load_trunk(path, content, config, num_classes, pretrained)
    if config is None:
        raise NoRecipeError(
            f'{path} holds a whole model and does not say which; pass config=, the path of its '
            "config, such as 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'"
        )
    model = build_model(config, num_classes)
    if pretrained:
        with prefix_errors(path):
            state = fit_model(content, model)
            check_classes(state, model, BACKBONE)
            load_weights(model, state, COMPLETE)
    return model


def _load_trunk(
    path: Path, content: Mapping, config: dict | None, num_classes: int | None, pretrained: bool
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
            options['backbone'], options['data_preprocessor'], input_spec(config)
        )
    elif (found := find_recipe(content, backbone)) and timm.is_model(found[0]):
        print_log(
            f'{path} does not say how its images were normalised: mean and standard deviation of '
            'ImageNet are taken; pass config= for others',
            logger='current',
        )
        options = dict(type='TimmBackbone', model_name=found[0], **found[1])
        model = build_backbone_alone(options, IMAGENET, InputSpec())
    else:
        raise NoRecipeError(
            f'{path} holds a backbone and does not say which; pass config=, the path of the config '
            f'that it was trained with. Its keys are such as {backbone.kept[:3]}'
        )
    if pretrained:
        load_backbone(model.model, content, path, COMPLETE)
    return model


def build_model(config: Mapping, num_classes: int | None = None) -> Algorithm:
    """The model of a config, with random weights, in evaluation mode."""
    model = cast(Algorithm, in_scope(model_config(config, num_classes)))
    model.input_spec = input_spec(config)
    return model.eval()


def build_backbone_alone(config: dict, data_preprocessor: dict, spec: InputSpec) -> MaskedBackbone:
    """A ``TimmBackbone`` without a mask token, which knows how its images are prepared."""
    options = {key: value for key, value in config.items() if not key.startswith('mask_')}
    network = cast(Any, in_scope({**options, 'num_classes': 0}))
    network.data_preprocessor = in_scope(data_preprocessor)  # adds nothing to its state_dict
    network.input_spec = spec
    return network.eval()


def in_scope(config: dict) -> nn.Module:
    """Build where no Runner has said in which registry to look."""
    with DefaultScope.overwrite_default_scope('a2mim'):
        return MODELS.build(config)


def read_config(path: str | Path) -> dict[str, Any]:
    """A config file of the user's or ours, as a plain dict. It is a program, and is run."""
    return Config.fromfile(path).to_dict()


def embedded_config(path: Path, content: Mapping) -> dict[str, Any] | None:
    """The config that a checkpoint of ours carries; None if there is none.

    Raises:
        ValueError: If it asks for anything but a model of ours.
    """
    config = embedded_values(content)
    if config is None or not isinstance(config.get('model'), dict):
        return None
    config['model'] = _without_initialisers(config['model'])
    _check_types(config['model'], path)
    return config


def model_config(config: Mapping, num_classes: int | None = None) -> dict[str, Any]:
    """The entry ``model`` without initial weights, with another number of classes if asked for.

    Raises:
        ValueError: If there is no model, or ``num_classes`` is given for one that has no classes.
    """
    if not isinstance(config.get('model'), Mapping):
        raise ValueError(f'the config has no model, only {sorted(config)}')
    model = _without_initialisers(config['model'])
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
        sizes = [step['size'] for step in dataset.get('pipeline', []) if 'size' in step]
        if sizes:
            return InputSpec(_pair(sizes[-1]), layout=_layout(dataset))
    return InputSpec()


def _layout(dataset: Mapping) -> dict[str, Any]:
    source = dataset.get('source') or {}
    return {key: source[key] for key in ('bands', 'page', 'axes', 'nodata') if key in source}


def _pair(size: int | list | tuple) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _without_initialisers(node: Any) -> Any:
    if isinstance(node, Mapping):
        kept = {key: value for key, value in node.items() if key not in INITIALISERS}
        return {key: _without_initialisers(value) for key, value in kept.items()}
    return node


def _check_types(model: dict, path: Path) -> None:
    MODELS.import_from_location()
    for node in _dicts_below(model):
        kind, name = node.get('type'), node.get('model_name')
        if kind is not None and str(kind).removeprefix('a2mim.') not in MODELS.module_dict:
            raise ValueError(
                f'{path}: its config asks for {kind!r}, which is no model of this package: refused'
            )
        if name is not None and not timm.is_model(str(name)):
            raise ValueError(
                f'{path}: its config asks for {name!r}, which is no timm model: refused'
            )


def _dicts_below(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _dicts_below(item)


def _given(config: str | Path | None) -> dict[str, Any] | None:
    if config is None:
        return None
    path = Path(config)
    return read_config(_existing(path) if path.suffix == '.py' else config_path(str(config)))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    return path


def _config_by_name(path: Path) -> dict[str, Any] | None:
    """The config of a released file, which its name tells."""
    found = [entry for entry in entries() if entry.file == path.name]
    return read_config(config_path(found[0].config)) if found else None
