"""A path, an array or a tensor becomes the normalised batch that a model wants.

Axes: B batch, C channels, (H, W) pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from a2mim.datasets.decoding import read_image
from a2mim.datasets.transforms import CenterCrop, resize

Image = str | Path | np.ndarray | Tensor


def as_batch(model: nn.Module, image: Image) -> Tensor:
    """Resize, crop the centre and normalise, as the model's own preprocessor does.

    The short side is brought to the size that the model was trained on.

    Args:
        model: From ``load_model``.
        image: Path of an image file; array (H, W) or (H, W, C) of uint8; or uint8 tensor
            (C, H, W) or (B, C, H, W). Grey becomes RGB, and RGB grey, as the model needs it.

    Returns:
        (B, C, *image_size), float32, on the device of the model.

    Raises:
        ValueError: If it is no such image, or has another number of channels.
        TypeError: If it is something else, or its values are not uint8.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None or not hasattr(model, 'input_spec'):
        raise TypeError(
            f'{type(model).__name__} does not say what images it wants; get it from '
            'a2mim.load_model'
        )
    channels = len(preprocessor.mean)
    pixels = _pixels(image, channels)  # (B, C, H, W)
    fitted = torch.stack([fit_image(one, model.input_spec.image_size) for one in pixels])
    return preprocessor(dict(image=fitted.to(preprocessor.mean.device)))['image']


def _pixels(image: Image, channels: int) -> Tensor:
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f'there is no image {image}')
        return read_image(str(image), channels)[None]
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(
            f'image is a {type(image).__name__}; give a path, an array (H, W, C) or a tensor '
            '(C, H, W). np.asarray(image) makes an array of a Pillow image'
        )
    if image.dtype not in (np.uint8, torch.uint8):
        raise TypeError(
            f'image holds {image.dtype}; give grey levels from 0 to 255 as uint8 '
            '(values from 0 to 1: (image * 255).round() first)'
        )
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise ValueError(f'an array of shape {image.shape} is no image (H, W) or (H, W, C)')
        rows = image[..., None] if image.ndim == 2 else image
        # A copy: arrays of Pillow images are read-only, which torch warns of.
        image = torch.from_numpy(np.array(rows)).permute(2, 0, 1)
    if image.ndim not in (3, 4):
        raise ValueError(f'a tensor of shape {tuple(image.shape)} is no (C, H, W) or (B, C, H, W)')
    return _with_channels(image[None] if image.ndim == 3 else image, channels)


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    found = pixels.shape[1]
    if found == channels:
        return pixels
    if (found, channels) == (1, 3):
        return pixels.expand(-1, 3, -1, -1)
    if (found, channels) == (3, 1):
        return rgb_to_grayscale(pixels)
    raise ValueError(f'the image has {found} channels, the model was trained on {channels}')


def fit_image(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part from the centre, (C, H, W), that has the shape of ``size``."""
    height, width = pixels.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    target = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    return CenterCrop(size)(resize(pixels, target, 'bicubic'), rng=None)
