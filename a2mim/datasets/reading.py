"""Any image file becomes a uint8 tensor with the number of channels that was asked for.

Axes: C channels, (H, W) pixels. The result is (C, H, W) with the channels of a pixel side by side
in memory, which is how files are decoded and what the fast resize wants.
"""

import os

import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps
from torch import Tensor

from a2mim.datasets.jpeg import START, decode_jpeg

IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.npy',
)  # fmt: skip


def read_image(path: str, channels: int = 3, *, shrink_to: int | None = None) -> Tensor:
    """Read one image file.

    EXIF rotation is applied, transparency is dropped, palette and CMYK colours become RGB, and
    16-bit values are scaled to 8 bits by their high byte. With ``channels=3`` everything becomes
    RGB, with 1 grey. Any other number must be what the file holds: bands of a TIFF, or a
    ``.npy`` array (H, W, C) or (C, H, W) of uint8 or uint16.

    Args:
        path: The file. The content decides how it is read, but for ``.npy`` arrays and for TIFF
            files with other than 1 or 3 channels.
        channels: C.
        shrink_to: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size as long as the short side
            keeps this many pixels: 256 for crops of 80 % and more of the area at 224 pixels.
            Faster on large photographs, but no longer the pixels of a full decode and resize: 2
            to 3 grey levels apart on average, and crops move by up to half a decoded pixel.

    Raises:
        ValueError: If the file cannot be read, or holds another number of channels.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == '.npy':
            return _bands(np.load(path, allow_pickle=False), channels)
        if suffix in ('.tif', '.tiff') and channels not in (1, 3):
            return _bands(tifffile.imread(path), channels)
        return _read_picture(path, channels, shrink_to)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise ValueError(
            f'cannot read {path!r} as an image with {channels} channels: {error}'
        ) from error


def _read_picture(path: str, channels: int, shrink_to: int | None) -> Tensor:
    """Ordinary JPEG files on the fast path, everything else through Pillow."""
    with open(path, 'rb') as file:
        if channels in (1, 3) and file.read(len(START)) == START:
            file.seek(0)
            pixels = decode_jpeg(np.fromfile(file, dtype=np.uint8), channels, shrink_to)
            if pixels is not None:
                return pixels
        file.seek(0)
        with Image.open(file) as picture:
            return _bands(_pixels(ImageOps.exif_transpose(picture), channels), channels)


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """Pixels of a Pillow image, converted to grey or RGB where that is what is asked for."""
    if picture.mode.startswith('I'):  # one channel of 16 bits, or of 32 in older Pillows
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError('its values exceed 16 bits; write it with 8 or 16 bits a channel')
        picture = Image.fromarray(_to_8_bits(values.astype(np.uint16)))
    if picture.mode == 'F':
        raise ValueError('it holds floating-point values; write it with 8 or 16 bits a channel')
    if picture.mode == 'P' and 'transparency' in picture.info:
        picture = picture.convert('RGBA')  # otherwise Pillow warns
    if channels in (1, 3):
        picture = picture.convert('L' if channels == 1 else 'RGB')
    return np.array(picture)


def _bands(values: np.ndarray, channels: int) -> Tensor:
    """(C, H, W) view of an array (H, W), (H, W, C) or (C, H, W)."""
    pixels = torch.from_numpy(_to_8_bits(values))
    if pixels.ndim == 2 and channels == 1:
        return pixels[None]
    if pixels.ndim == 3 and pixels.shape[2] == channels:
        return pixels.permute(2, 0, 1)
    if pixels.ndim == 3 and pixels.shape[0] == channels:
        return pixels
    raise ValueError(
        f'its array has shape {tuple(values.shape)}; expected {channels} channels first or last'
    )


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)  # as libpng and Pillow do for 16-bit colour
    raise ValueError(f'its values are {values.dtype}; write them as uint8 or uint16')
