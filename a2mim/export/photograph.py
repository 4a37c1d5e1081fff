"""A real photograph, as a model wants it: features of noise would hide many a difference.

Axes: B batch, C channels, (H, W) pixels.
"""

from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor

from a2mim.export.source import Source

DEFAULT = 'chelsea.png'


def read_photograph(source: Source, path: Path | None = None) -> Tensor:
    """An image through timm's evaluation transform for this model.

    Args:
        source: Gives size, channels, mean and deviation.
        path: Image file; None: the cat that comes with scikit-image.

    Shape:
        returns: (1, C, H, W).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image.
    """
    path = path or Path(str(resources.files('skimage') / 'data' / DEFAULT))
    try:
        with Image.open(path) as file:
            image = file.convert('RGB')
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f'{path} is no image that Pillow reads ({error})') from error
    channels, height, width = source.input_shape
    config = resolve_data_config({'input_size': (3, height, width)}, model=source.model)
    for key in ('mean', 'std'):
        config[key] = tuple(config[key][i % len(config[key])] for i in range(3))
    pixels = create_transform(**config, is_training=False)(image)  # (3, H, W)
    # Another number of channels takes red, green and blue in turn.
    return pixels[torch.arange(channels) % 3].unsqueeze(0)
