"""A model out of a released name, a file of weights or a config, without a Runner."""

from pathlib import Path

from torch import nn

from a2mim.zoo.build import build_model
from a2mim.zoo.configs import config_path
from a2mim.zoo.model_config import read_config
from a2mim.zoo.store import local_file
from a2mim.zoo.table import find_entry
from a2mim.zoo.weights import load_model_file

SUFFIXES = ('.pth', '.pt', '.safetensors')


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
            whole, published or the trunk alone, or one of the published system; or a config
            (``.py``), which is run.
        pretrained: With weights; False: the same model with random ones. A config has none and
            needs ``pretrained=False``.
        config: Recipe of a file of weights that carries none: a path ending in ``.py``, or one
            below ``configs/`` without suffix.
        num_classes: Of a classifier; with weights, it must be that of the file.

    Returns:
        ``A2MIM`` or ``SimMIM``, ``ImageClassifier``, or of a file with a trunk alone
        ``TimmBackbone``. Its ``input_spec`` says what images it was trained on.

    Raises:
        KeyError: If nothing has this name.
        FileNotFoundError: If there is no such file, here or on its server.
        ConnectionError: If it cannot be downloaded.
        ValueError: If it is no checkpoint, asks to run code, or does not fit its config.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or (path.is_file() and path.suffix != '.py'):
        return load_model_file(path, _given(config), num_classes, pretrained=pretrained)
    if config is not None:
        raise ValueError(f'config={str(config)!r}: {path} is no file of weights')
    if path.suffix != '.py':
        return _released(str(name_or_path), pretrained, num_classes)
    if pretrained:
        raise ValueError(f'{path} is a config and has no weights: pass pretrained=False')
    return build_model(read_config(_existing(path)), num_classes)


def _released(name: str, pretrained: bool, num_classes: int | None) -> nn.Module:
    entry = find_entry(name)
    recipe = read_config(config_path(entry.config))
    if not pretrained:
        return build_model(recipe, num_classes)
    return load_model_file(local_file(entry), recipe, num_classes, pretrained=True)


def _given(config: str | Path | None) -> dict | None:
    if config is None:
        return None
    path = Path(config)
    return read_config(_existing(path) if path.suffix == '.py' else config_path(str(config)))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    return path
