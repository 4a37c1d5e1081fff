"""The bytes of any image file become a uint8 tensor with the number of channels asked for.

Axes: C channels, (H, W) pixels. The result is (C, H, W) with the channels of a pixel side by side
in memory, which is how files are decoded and what the fast resize wants.
"""

import io
import math

import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from a2mim.datasets.jpeg import MAX_PIXELS, START, decode_jpeg
from a2mim.errors import BadDataError


def decode_image(data: bytes, suffix: str, channels: int, shrink_to: int | None = None) -> Tensor:
    """Decode what a file holds; see ``read_image``, which takes the file itself.

    Args:
        data: All bytes of the file.
        suffix: The ending of its name, in small letters.
        channels: C.
        shrink_to: Coarser decoding of large JPEG files.

    Shape:
        returns: (C, H, W), uint8.

    Raises:
        BadDataError: If the bytes are no image, or one of another number of channels.
    """
    try:
        return _decode(data, suffix, channels, shrink_to)
    except MemoryError:
        raise  # the machine's fault, not the image's
    except Exception as error:  # decoders meet damage with whatever error they happen to run into
        raise BadDataError(str(error) or type(error).__name__) from error


def _decode(data: bytes, suffix: str, channels: int, shrink_to: int | None) -> Tensor:
    """Ordinary JPEG files on the fast path, arrays and bands apart, all else through Pillow."""
    if not data:
        raise ValueError('it is empty')
    if suffix == '.npy':
        return _bands(_array(io.BytesIO(data), channels), channels)
    if suffix in ('.tif', '.tiff') and channels not in (1, 3):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            refuse_bomb(file.series[0].shape, channels)
            return _bands(file.asarray(), channels)
    if channels in (1, 3) and data.startswith(START):
        pixels = decode_jpeg(np.frombuffer(data, dtype=np.uint8), channels, shrink_to)
        if pixels is not None:
            return pixels
    try:
        picture = Image.open(io.BytesIO(data))  # refuses bombs itself
    except UnidentifiedImageError as error:
        raise ValueError('its content is of no known image format') from error
    with picture:
        return _bands(_pixels(ImageOps.exif_transpose(picture), channels), channels)


def refuse_bomb(shape: tuple[int, ...], channels: int) -> None:
    """Refuse an array before memory is taken for it: a few bytes can claim to be terabytes."""
    if math.prod(shape) > MAX_PIXELS * channels:
        raise ValueError(
            f'its header claims the shape {shape}, more than {MAX_PIXELS} pixels of {channels} '
            'channels; cut it into tiles'
        )


def _array(file: io.BytesIO, channels: int) -> np.ndarray:
    """What ``np.load`` gives, but only after a look at the header."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f'it is of version {version} of the npy format; {list(readers)} are read')
    shape, _, _ = readers[version](file)
    refuse_bomb(shape, channels)
    file.seek(0)
    return np.load(file, allow_pickle=False)


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
    if pixels.numel() == 0:
        raise ValueError(f'its array has shape {tuple(values.shape)}, which holds no pixel')
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
