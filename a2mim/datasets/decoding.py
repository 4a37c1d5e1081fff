"""Read and decode image files of any kind to uint8 tensors.

Axes: C channels, (H, W) pixels. The result is (C, H, W) in channels-last memory layout, the layout
of decoded files and of the fast resize.
"""

import errno
import io
import math
import os
import stat
from typing import cast

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from a2mim.errors import BadDataError

IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.npy',
)  # fmt: skip
# Shortages of the machine, which are no errors of the file.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
MAX_PIXELS = 2 * cast(int, Image.MAX_IMAGE_PIXELS)  # Pillow's default limit
START, END = b'\xff\xd8\xff', b'\xff\xd9'
# OpenCV's flags for grey images by reduction factor; colour is one more bit.
REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


def read_image(path: str, channels: int = 3, *, shrink_to: int | None = None) -> Tensor:
    """Read one image file.

    EXIF rotation is applied, transparency is dropped, palette and CMYK colours become RGB, and
    16-bit values are reduced to their high byte. With ``channels=3`` every image becomes RGB, with
    1 grey. Another number must be that of the file: a TIFF with so many bands, or a ``.npy`` array
    (H, W, C) or (C, H, W) of uint8 or uint16.

    Args:
        path: The file. Its format is detected from the content, except ``.npy`` arrays and TIFF
            files with other than 1 or 3 channels, which need their suffix.
        channels: C.
        shrink_to: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size as long as the short side
            keeps this many pixels: 256 for crops of 80 % and more of the area at 224 pixels.
            Faster on large photographs, but not the pixels of a full decode and resize: they
            differ by 2 to 3 of 255 on average, and crops shift by up to half a decoded pixel.

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
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise OSError('it is not a regular file')
    most = 2 * channels * MAX_PIXELS  # 16 bits a channel
    if status.st_size > most:
        raise OSError(f'it has {status.st_size} bytes, more than the {most} of the largest image')
    with open(path, 'rb') as file:
        return file.read()


def suffix_of(name: str) -> str:
    """The suffix of a file name, in lower case."""
    return os.path.splitext(name)[1].lower()


def refusal(error: OSError | BadDataError, name: str, channels: int) -> BadDataError:
    """A ``BadDataError`` that names the image; a shortage of the machine is raised instead."""
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        raise error
    reason = getattr(error, 'strerror', None) or error
    return BadDataError(f'cannot read {name!r} as an image with {channels} channels: {reason}')


def decode_image(data: bytes, suffix: str, channels: int, shrink_to: int | None = None) -> Tensor:
    """Decode the content of a file; see ``read_image``.

    Args:
        data: All bytes of the file.
        suffix: The suffix of its name, in lower case.
        channels: C.
        shrink_to: See ``read_image``.

    Shape:
        returns: (C, H, W), uint8.

    Raises:
        BadDataError: If the bytes are not an image of ``channels`` channels.
    """
    try:
        return _decode(data, suffix, channels, shrink_to)
    except MemoryError:
        raise  # a shortage of the machine, not an error of the image
    except Exception as error:  # decoders raise errors of any type on damaged files
        raise BadDataError(str(error) or type(error).__name__) from error


def _decode(data: bytes, suffix: str, channels: int, shrink_to: int | None) -> Tensor:
    """Decode JPEG files by OpenCV, arrays and bands by their readers, the rest by Pillow."""
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
        picture = Image.open(io.BytesIO(data))  # refuses decompression bombs
    except UnidentifiedImageError as error:
        raise ValueError('its content is of no known image format') from error
    with picture:
        return _bands(_pixels(ImageOps.exif_transpose(picture), channels), channels)


def refuse_bomb(shape: tuple[int, ...], channels: int) -> None:
    """Refuse an oversized array before memory is allocated for it."""
    if math.prod(shape) > MAX_PIXELS * channels:
        raise ValueError(
            f'its header claims the shape {shape}, more than {MAX_PIXELS} pixels of {channels} '
            'channels; cut it into tiles'
        )


def _array(file: io.BytesIO, channels: int) -> np.ndarray:
    """``np.load``, after a check of the header: the shape, the dtype and the bytes that follow."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f'its npy format has version {version}; supported are {list(readers)}')
    try:
        shape, _, dtype = readers[version](file)
    except MemoryError as error:  # of Python's parser, on an expression that is nested too deeply
        raise ValueError('its npy header cannot be parsed') from error
    refuse_bomb(shape, channels)
    if dtype.kind not in 'buifcO':  # np.load refuses objects
        raise ValueError(f'its values are {str(dtype)[:40]}; write them as uint8 or uint16')
    claimed, there = math.prod(shape) * dtype.itemsize, len(file.getbuffer()) - file.tell()
    if dtype.kind != 'O' and claimed > there:
        raise ValueError(f'it is truncated: its header claims {claimed} bytes, {there} follow')
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """Pixels of a Pillow image, converted to grey or RGB for 1 or 3 channels."""
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
        raise ValueError(f'its array has shape {tuple(values.shape)}, which has no pixel')
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


def decode_jpeg(data: np.ndarray, channels: int, shrink_to: int | None) -> Tensor | None:
    """Decode a grey or colour JPEG file by OpenCV, with EXIF rotation.

    The pixels are those of Pillow, as both use libjpeg-turbo; OpenCV is faster.

    Args:
        data: (N,), uint8, the bytes of the file.
        channels: 1 or 3.
        shrink_to: See ``read_image``.

    Returns:
        (C, H, W), uint8; None for files to be left to Pillow, damaged ones among them.
    """
    frame = _frame(data.data)
    # OpenCV fills the rest of a truncated file with grey; Pillow refuses it.
    if frame is None or END not in data[-32:].tobytes():
        return None
    height, width, components = frame
    # OpenCV and Pillow convert CMYK differently.
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
