"""The part of a config that builds a model, and what it tells of the images that the model wants.

A checkpoint carries its config as text from a stranger. It is parsed as literals, and only models
of this package are built from it: mmengine would import and call any dotted name in a ``type``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
from mmengine import Config

from a2mim.checkpoint import literal_config
from a2mim.registry import MODELS

# Initial weights: those of the checkpoint replace them, and a file of that name is not wanted.
INITIALISERS = ('init_cfg', 'pretrained', 'checkpoint_path', 'pretrained_cfg')


@dataclass(frozen=True)
class InputSpec:
    """What a model was trained on.

    Attributes:
        image_size: (H, W) in pixels.
        block_size: Pixels of a side of a mask block.
        ratio: Share of hidden blocks.
    """

    image_size: tuple[int, int] = (224, 224)
    block_size: int | tuple[int, int] = 32
    ratio: float = 0.6


def read_config(path: str | Path) -> dict:
    """A config file of the user's or ours, as a plain dict. It is a program, and is run."""
    return Config.fromfile(path).to_dict()


def embedded_config(path: Path, content: Mapping) -> dict | None:
    """The config that a checkpoint of ours carries; None if there is none.

    Raises:
        ValueError: If it asks for anything but a model of ours.
    """
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    config = literal_config(text) if isinstance(text, str) else None
    if config is None or not isinstance(config.get('model'), dict):
        return None
    config['model'] = _without_initialisers(config['model'])
    _check_types(config['model'], path)
    return config


def model_config(config: Mapping, num_classes: int | None = None) -> dict:
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
            return InputSpec(_pair(mask['image_size']), mask['block_size'], mask['ratio'])
    for dataset in datasets:
        sizes = [step['size'] for step in dataset.get('pipeline', []) if 'size' in step]
        if sizes:
            return InputSpec(_pair(sizes[-1]))
    return InputSpec()


def _pair(size: int | list | tuple) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _without_initialisers(node: object) -> object:
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
