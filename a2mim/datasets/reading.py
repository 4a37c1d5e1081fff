"""Image files of any kind, read whole and decoded, or refused by name.

Axes: C channels, (H, W) pixels.
"""

import errno
import os
import stat

from torch import Tensor

from a2mim.datasets.decoding import decode_image
from a2mim.datasets.jpeg import MAX_PIXELS
from a2mim.errors import BadDataError

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
