"""A network of a landscape: the model of a config, with the weights of a file or random ones."""

from pathlib import Path

import torch
from mmengine import Config
from torch import nn

from a2mim.analysis.sources import RANDOM, source_name, split_label
from a2mim.weights.load_model import load_model_file


def label_of(text: str) -> str:
    """What figures call ``[LABEL=][random:]FILE``: LABEL, or FILE without folders and suffix."""
    label, source = split_label(text)
    return label or source_name(source)


def read_network(text: str, cfg: Config, seed: int = 0) -> nn.Module:
    """The model of ``cfg`` with the weights of ``[LABEL=][random:]FILE``.

    Args:
        text: After ``random:``, FILE must be there, but its weights are not taken.
        cfg: Of the model; what FILE says of itself does not count.
        seed: Of random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or one of another model.
    """
    source = split_label(text)[1]
    path = Path(source.removeprefix(RANDOM))
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    torch.manual_seed(seed)
    pretrained = not source.startswith(RANDOM)
    return load_model_file(path, cfg.to_dict(), None, pretrained=pretrained)
