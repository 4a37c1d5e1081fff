"""A checkpoint as it is given away: weights and config, under a name with its hash."""

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor

from a2mim.version import __version__
from a2mim.weights.files import save_file
from a2mim.weights.names import find_backbone, tensors_in
from a2mim.weights.recipe import find_recipe
from a2mim.weights.released import hash_of
from a2mim.weights.safe_load import load_file

SUFFIXES = ('.safetensors', '.pth')


def publish(content: Mapping, path: Path, config: str | None = None) -> tuple[Path, str]:
    """Write the weights of a checkpoint, and what made them, to ``NAME-xxxxxxxx.SUFFIX``.

    The eight digits are the first of the SHA-256 of the file.

    Args:
        content: Of the checkpoint.
        path: NAME.SUFFIX, ``.safetensors`` or ``.pth``.
        config: Text of the config; None: the one that the checkpoint carries.

    Returns:
        The path, and the whole SHA-256.

    Raises:
        ValueError: If the suffix is another one, there are no weights, or not all are finite.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end in {" or ".join(SUFFIXES)}')
    state = published_state(content)
    meta = published_meta(content, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as folder:
        unfinished = Path(folder) / path.name
        save_file(state, unfinished, meta)
        _verify(unfinished, state, meta)
        digest = hash_of(unfinished)
        final = path.with_stem(f'{path.stem}-{digest[:8]}')
        os.replace(unfinished, final)
    return final, digest


def published_state(content: Mapping) -> dict[str, Tensor]:
    """The weights of a checkpoint alone; of two sets the averaged one.

    mmengine's EMA hook keeps the average in ``state_dict``; OpenMixup kept it under the
    ordinary names, and the raw weights as ``ema_…``.

    Raises:
        ValueError: If there are none, or one is not finite.
    """
    tensors = tensors_in(content)
    state = {key: value for key, value in tensors.items() if not key.startswith('ema_')}
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f'{len(broken)} tensors hold values that are not finite ({", ".join(broken[:4])}): '
            'this training has diverged; publish an earlier checkpoint'
        )
    return state


def published_meta(content: Mapping, config: str | None = None) -> dict[str, str]:
    """Config and model as strings: timm model and options, epoch, iteration, seed, versions.

    What the checkpoint does not tell is left out.
    """
    meta = content.get('meta')
    meta = dict(meta) if isinstance(meta, Mapping) else {}
    if config is not None:
        meta['cfg'] = config
    described = {key: str(meta[key]) for key in ('cfg', 'epoch', 'iter', 'seed') if key in meta}
    recipe = find_recipe({**content, 'meta': meta}, find_backbone(content))
    if recipe is not None:
        described.update(model=recipe[0], options=json.dumps(recipe[1]))
    versions = {
        'a2mim': __version__,
        'torch': torch.__version__,
        'timm': timm.__version__,
        'python': platform.python_version(),
    }
    if 'mmengine_version' in meta:
        versions['mmengine'] = str(meta['mmengine_version'])
    return {**described, 'versions': json.dumps(versions)}


def _verify(path: Path, state: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    back = load_file(path)
    same = back['meta'] == meta and back['state_dict'].keys() == state.keys()
    if not same or not all(torch.equal(back['state_dict'][k], v) for k, v in state.items()):
        raise ValueError(f'{path.name} did not read back as it was written: is the disk full?')
