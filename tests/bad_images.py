"""Image files, each damaged in a different way, mixed with intact ones."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from a2mim.datasets import PhotoPatches

SIDE = 32
HUGE = 65_000  # pixels a side, 4 × 10^9 in all


def patches(number: int) -> list[Image.Image]:
    """Patches of real photographs, evenly spread over them."""
    source = PhotoPatches(patch_size=SIDE)
    indices = np.linspace(0, len(source) - 1, number, dtype=int)
    return [Image.fromarray(source.load(int(i)).permute(1, 2, 0).numpy()) for i in indices]


def encoded(form: str) -> bytes:
    """A noisy image of a few kilobytes in a format."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def png_bomb() -> bytes:
    """A PNG file whose header, checksum and all, claims billions of pixels."""
    data = encoded('PNG')
    header = b'IHDR' + struct.pack('>II', HUGE, HUGE) + data[24:29]
    return data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:]


def jpeg_bomb() -> bytes:
    """A JPEG file with its end in place, whose frame header claims billions of pixels."""
    data = encoded('JPEG')
    frame = data.index(b'\xff\xc0') + 5
    return data[:frame] + struct.pack('>HH', HUGE, HUGE) + data[frame + 4 :]


def npy_bomb() -> bytes:
    """A header of the npy format that claims terabytes, with no data after it."""
    file = io.BytesIO()
    form = {'descr': '|u1', 'fortran_order': False, 'shape': (10**6, 10**6, 3)}
    np.lib.format.write_array_header_1_0(file, form)
    return file.getvalue()


def tiff_bomb(channels: int) -> bytes:
    """A TIFF file whose tags claim billions of pixels."""
    file = io.BytesIO()
    bands = np.zeros((SIDE, SIDE, channels), np.uint8)
    meaning = 'rgb' if channels == 3 else 'minisblack'
    tifffile.imwrite(file, bands, photometric=meaning, planarconfig='contig')
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        for name in ('ImageWidth', 'ImageLength'):
            tiff.pages[0].tags[name].overwrite(HUGE)
    return file.getvalue()


def float_tiff() -> bytes:
    """A TIFF file of a type that is no type of pixels."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((SIDE, SIDE), np.float64))
    return file.getvalue()


# Ending and contents of each kind; read with three channels none of them is an image.
CONTENTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    'empty': ('.jpg', bytes),
    'text': ('.jpg', lambda: b'<html>404 Not Found</html>\n'),
    'truncated JPEG': ('.jpg', lambda: encoded('JPEG')[:600]),
    'truncated PNG': ('.png', lambda: encoded('PNG')[:1500]),
    'JPEG bomb': ('.jpg', jpeg_bomb),
    'PNG bomb': ('.png', png_bomb),
    'array bomb': ('.npy', npy_bomb),
    'floats': ('.tif', float_tiff),
}


def write_bad(folder: Path, kind: str, stem: str) -> Path:
    """Write a file of a kind: one of ``CONTENTS``, 'broken link' or 'forbidden'."""
    suffix, content = CONTENTS.get(kind, ('.jpg', lambda: encoded('JPEG')))
    path = folder / f'{stem}{suffix}'
    if kind == 'broken link':
        path.symlink_to(folder / 'nowhere.jpg')
        return path
    path.write_bytes(content())
    if kind == 'forbidden':
        path.chmod(0)
    return path


def kinds() -> list[str]:
    """Kinds of damage available to this user: root can read forbidden files."""
    return [*CONTENTS, 'broken link', *(['forbidden'] if os.geteuid() else [])]
