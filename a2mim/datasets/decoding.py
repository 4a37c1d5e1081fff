"""The bytes of any image file become a uint8 tensor with the number of channels asked for.

Axes: C channels, (H, W) pixels. The result is (C, H, W) with the channels of a pixel side by side
in memory, which is how files are decoded and what the fast resize wants.
"""

import errno
import io
import math
import os
import stat

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from a2mim.errors import BadDataError

# [jpeg]
# Ordinary JPEG files, decoded as fast as one core can.
#
# Axes: C channels, (H, W) pixels.


MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # where Pillow refuses, by default
START, END = b'\xff\xd8\xff', b'\xff\xd9'
# OpenCV's flags for grey at 1/1, 1/2, …; colour is one more bit.
REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


def decode_jpeg(data: np.ndarray, channels: int, shrink_to: int | None) -> Tensor | None:
    """Decode a grey or colour file, rotated as its EXIF entry says.

    The pixels are those of Pillow: both use libjpeg-turbo. OpenCV needs less time around it.

    Args:
        data: (N,), uint8, the bytes of the file.
        channels: 1 or 3.
        shrink_to: Decode at 1/2, 1/4 or 1/8 as long as the short side keeps this many pixels.

    Returns:
        (C, H, W), uint8; None for files that Pillow should judge, damaged ones among them.
    """
    frame = _frame(memoryview(data))
    # OpenCV fills up a truncated file with grey, where Pillow refuses it.
    if frame is None or END not in data[-32:].tobytes():
        return None
    height, width, components = frame
    # CMYK: OpenCV and Pillow disagree about its colours.
    if components not in (1, 3) or height * width > MAX_PIXELS:
        return None
    wanted = min(height, width) if shrink_to is None else shrink_to
    factor = next(f for f in REDUCTIONS if f == 1 or min(height, width) >= f * wanted)
    colour = cv2.IMREAD_COLOR_RGB if channels == 3 else 0
    try:
        pixels = cv2.imdecode(data, REDUCTIONS[factor] | colour)
    except cv2.error:
        return None
    if pixels is None:
        return None
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _frame(data: memoryview) -> tuple[int, int, int] | None:
    """Height, width and number of components from the frame header (ITU T.81, B.2.2)."""
    position = len(START) - 1
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            header = data[position + 5 : position + 10]
            return header[0] << 8 | header[1], header[2] << 8 | header[3], header[4]
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return None


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


# [reading]
# Image files of any kind, read whole and decoded, or refused by name.
#
# Axes: C channels, (H, W) pixels.


IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.npy',
)  # fmt: skip
# The machine has run out of something: that says nothing about the file.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


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

    Shape:
        returns: (C, H, W), uint8.

    Raises:
        BadDataError: If the file cannot be read, holds another number of channels, or claims more
            than ``MAX_PIXELS`` pixels.
    """
    try:
        return decode_image(read_file(path, channels), suffix_of(path), channels, shrink_to)
    except (OSError, BadDataError) as error:
        raise refusal(error, path, channels) from error


def read_file(path: str, channels: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: If the file cannot be read, or has more bytes than an image can.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise OSError('it is no regular file')
    most = 2 * channels * MAX_PIXELS  # 16 bits a channel
    if status.st_size > most:
        raise OSError(f'it has {status.st_size} bytes, more than the {most} of the largest image')
    with open(path, 'rb') as file:
        return file.read()


def suffix_of(name: str) -> str:
    """The ending of a name, in small letters."""
    return os.path.splitext(name)[1].lower()


def refusal(error: OSError | BadDataError, name: str, channels: int) -> BadDataError:
    """The error that says which image cannot be read; a shortage of the machine stays as it is."""
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        raise error
    reason = getattr(error, 'strerror', None) or error
    return BadDataError(f'cannot read {name!r} as an image with {channels} channels: {reason}')
