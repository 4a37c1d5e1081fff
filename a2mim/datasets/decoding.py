"""Read and decode image files of any kind to tensors of the file's own type.

Axes: C channels, (H, W) pixels. The result is (C, H, W), for pictures in channels-last memory
layout, the layout of decoded files and of the fast resize.

The decoder is chosen by the content, never by the name, and from the list here: Pillow by itself
would hand an EPS file with the name of a photograph to Ghostscript.
"""

import errno
import io
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from a2mim.datasets.layout import PLAIN, TYPES, Layout, Stored, check_type, image_of
from a2mim.errors import BadDataError

try:
    import simplejpeg
except ImportError:  # no wheel for this machine: OpenCV gives the same pixels
    simplejpeg = None

IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.npy',
    '.jfif', '.avif', '.tga', '.jp2', '.npz', '.dcm',
)  # fmt: skip
# What Pillow may read. Targa files have no mark of their own: they need their suffix.
FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'AVIF', 'TIFF', 'JPEG2000', 'PPM')
TIFF_MARKS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
PNG_MARK = b'\x89PNG\r\n\x1a\n'
JPEG_2000_MARKS = (b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51')
# Bands of a TIFF file that show a colour, by its photometric interpretation.
COLOURS = {'MINISBLACK': 1, 'MINISWHITE': 1, 'PALETTE': 1, 'RGB': 3, 'YCBCR': 3, 'SEPARATED': 4}
ORIENTATION, EXTRAS = 274, 338  # tags of TIFF, the first of EXIF too
# Shortages of the machine, which are no errors of the file.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
MAX_PIXELS = 2 * cast(int, Image.MAX_IMAGE_PIXELS)  # Pillow's default limit
# Of a JPEG file: its first and last bytes, the marker of a scan, the sizes in its frame header.
START, END, SCAN, FRAME = b'\xff\xd8\xff', b'\xff\xd9', 0xDA, struct.Struct('>HHB')
# The tag of the orientation in both byte orders, and its entry in EXIF where the value is 1.
ORIENTATION_TAGS = b'\x12\x01', b'\x01\x12'
UPRIGHT = re.compile(rb'\x12\x01\x03\0\x01\0\0\0\x01\0|\x01\x12\0\x03\0\0\0\x01\0\x01')
# OpenCV's flags for grey images by reduction factor; colour is one more bit.
REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


def read_image(
    path: str,
    channels: int = 3,
    *,
    shrink_to: int | None = None,
    bands: Sequence[int] | None = None,
    page: int | None = None,
    axes: str | None = None,
    nodata: float | None = None,
) -> Tensor:
    """Read one image file.

    EXIF rotation is applied, transparency is dropped, and palette and CMYK colours become RGB. With
    ``channels=3`` a picture becomes RGB, with 1 grey. Another number must be that of the bands or
    pages of a TIFF, or of an array (H, W, C) or (C, H, W). Missing values are filled with the mean
    of their band. Of an animation the first picture is read.

    Args:
        path: The file. Its content tells the format; arrays and Targa files need their suffix.
        channels: C.
        shrink_to: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size as long as the short side
            keeps this many pixels: 256 for crops of 80 % and more of the area at 224 pixels.
            Faster on large photographs, but other pixels than those of a full decode and resize,
            by 2 to 3 of 255 on average; crops shift by up to half a decoded pixel.
        bands: See ``Layout``, as for the next three.
        page: See ``Layout``.
        axes: See ``Layout``.
        nodata: See ``Layout``.

    Shape:
        returns: (C, H, W), in the type of the file, one of ``TYPES``.

    Raises:
        BadDataError: If it cannot be read, holds other channels, or claims over ``MAX_PIXELS``.
    """
    layout = Layout.of(channels, bands, page, axes, nodata)
    try:
        return decode_image(read_file(path, channels), suffix_of(path), channels, shrink_to, layout)
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
    most = 4 * channels * MAX_PIXELS  # 32 bits a channel
    if status.st_size > most:
        raise OSError(f'it has {status.st_size} bytes, more than the {most} of the largest image')
    with open(path, 'rb', buffering=0) as file:
        return file.readall()


def suffix_of(name: str) -> str:
    """The suffix of a file name, in lower case."""
    return os.path.splitext(name)[1].lower()


def refusal(error: OSError | BadDataError, name: str, channels: int) -> BadDataError:
    """A ``BadDataError`` that names the image; a shortage of the machine is raised instead."""
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        raise error
    reason = getattr(error, 'strerror', None) or error
    return BadDataError(f'cannot read {name!r} as an image with {channels} channels: {reason}')


def decode_image(
    data: bytes,
    suffix: str,
    channels: int,
    shrink_to: int | None = None,
    layout: Layout = PLAIN,
) -> Tensor:
    """Decode the content of a file; see ``read_image``.

    Args:
        data: All bytes of the file.
        suffix: The suffix of its name, in lower case.
        channels: C.
        shrink_to: See ``read_image``.
        layout: Which bands or page to take.

    Shape:
        returns: (C, H, W), in the type of the file.

    Raises:
        BadDataError: If the bytes are not an image of ``channels`` channels.
    """
    return decode_and_count(data, suffix, channels, shrink_to, layout)[0]


def decode_and_count(
    data: bytes, suffix: str, channels: int, shrink_to: int | None, layout: Layout
) -> tuple[Tensor, int]:
    """``decode_image``, and the number of missing values that were filled."""
    try:
        return _decode(data, suffix, channels, shrink_to, layout)
    except MemoryError:
        raise  # a shortage of the machine, not an error of the image
    except Exception as error:  # decoders raise errors of any type on damaged files
        raise BadDataError(str(error) or type(error).__name__) from error


def _decode(
    data: bytes, suffix: str, channels: int, shrink_to: int | None, layout: Layout
) -> tuple[Tensor, int]:
    """Decode JPEG files at once, and all others to an array, from which bands are taken."""
    if not data:
        raise ValueError('it is empty')
    if layout == PLAIN and channels in (1, 3) and data.startswith(START):
        pixels = decode_jpeg(data, channels, shrink_to)
        if pixels is not None:
            return pixels, 0
    image, filled = image_of(_stored(data, suffix, channels, layout), channels, layout)
    if min(image.strides) < 0 or not image.flags.writeable:
        image = image.copy()  # torch takes neither
    return torch.from_numpy(image), filled


def _stored(data: bytes, suffix: str, channels: int, layout: Layout) -> Stored:
    """The values of a file, by the decoder of its content."""
    if suffix == '.npy':
        return Stored(_array(io.BytesIO(data), channels))
    if suffix == '.npz':
        return Stored(_only_array(data, channels))
    if data[128:132] == b'DICM':
        return _dicom(data, channels, layout)
    if data.startswith(TIFF_MARKS):
        stored = _tiff(data, channels, layout)
        if stored is not None:
            return stored
    elif data.startswith(JPEG_2000_MARKS) or data[4:12] in (b'ftypavif', b'ftypavis'):
        stored = _beyond_8_bits(data, channels)
        if stored is not None:
            return stored
    with open_picture(data, suffix) as picture:
        if picture.format in ('PNG', 'PPM') and _has_16_bits(data):
            return _opencv(data, channels, layout, picture.getexif().get(ORIENTATION, 1))
        return picture_values(picture, channels, layout)


def open_picture(data: bytes, suffix: str = '') -> Image.Image:
    """Open a picture by Pillow, in one of ``FORMATS``; decompression bombs are refused."""
    Image.init()  # once; older Pillows have no AVIF
    names = (*FORMATS, 'TGA') if suffix == '.tga' else FORMATS
    formats = [name for name in names if name in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError('its content is of no known image format') from error


def picture_values(picture: Image.Image, channels: int, layout: Layout) -> Stored:
    """A picture of 8 bits, converted to grey or RGB for 1 or 3 channels, or a grey one of more."""
    if layout.page is not None:
        picture.seek(layout.page)
    # Some programs call a fourth band alpha, whatever it is: of kind 2, which is not premultiplied.
    unsure = picture.format == 'TIFF' and cast(Any, picture).tag_v2.get(EXTRAS, (0,))[0] == 2
    picture = cast(Image.Image, ImageOps.exif_transpose(picture))
    if picture.mode == 'P' and 'transparency' in picture.info:
        picture = picture.convert('RGBA')  # otherwise Pillow warns
    elif picture.mode == 'P' and layout.bands is not None:
        picture = picture.convert('RGB')
    deep = picture.mode.startswith(('I', 'F'))
    converts = channels in (1, 3) and layout.bands is None and not deep
    if converts and not (unsure and not _is_mask(np.asarray(picture)[..., -1])):
        picture = picture.convert('L' if channels == 1 else 'RGB')
    values = np.array(picture)
    return Stored(values, 'YXS'[: values.ndim], colour=True, sure=True)


def _is_mask(alpha: np.ndarray) -> bool:
    """Whether a band holds only 0 and the largest value of its type, as a transparency mask."""
    return bool(((alpha == 0) | (alpha == np.iinfo(alpha.dtype).max)).all())


def _has_16_bits(data: bytes) -> bool:
    """Whether a PNG or a binary PGM or PPM file holds more than 8 bits a channel."""
    if data.startswith(PNG_MARK):
        return data[24] == 16
    header = re.match(
        rb'P[56](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)', data
    )
    return header is not None and int(header[1]) > 255


def _opencv(data: bytes, channels: int, layout: Layout, orientation: int) -> Stored:
    """A picture of up to 16 bits or of float values; Pillow keeps 8 bits of colours."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or (data.startswith(PNG_MARK) and b'IEND' not in data[-64:]):
        raise ValueError('it is truncated or damaged')
    if values.ndim == 3:
        # Grey with transparency comes as colour.
        bands = [0, 3] if data.startswith(PNG_MARK) and data[25] == 4 else [2, 1, 0, 3]
        if channels in (1, 3) and layout.bands is None:
            bands.remove(3)
        values = values[..., [band for band in bands if band < values.shape[2]]]
    return Stored(values, 'YXS'[: values.ndim], colour=True, orientation=orientation, sure=True)


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
        raise ValueError(
            f'its values are {str(dtype)[:40]}; write them as one of {", ".join(TYPES)}'
        )
    claimed, there = math.prod(shape) * dtype.itemsize, len(file.getbuffer()) - file.tell()
    if dtype.kind != 'O' and claimed > there:
        raise ValueError(f'it is truncated: its header claims {claimed} bytes, {there} follow')
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _only_array(data: bytes, channels: int) -> np.ndarray:
    """The array of a ``.npz`` file that holds one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(names) != 1 or not names[0].endswith('.npy'):
            raise ValueError(f'it holds {names[:5]}; one array is expected, saved as .npy')
        size, most = archive.getinfo(names[0]).file_size, 4 * channels * MAX_PIXELS
        if size > most:
            raise ValueError(
                f'its array has {size} bytes, more than the {most} of the largest image'
            )
        return _array(io.BytesIO(archive.read(names[0])), channels)


def _tiff(data: bytes, channels: int, layout: Layout) -> Stored | None:
    """The bands of a TIFF file; None for one picture of 8 bits, which Pillow converts."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        image = _image_of_tiff(file, layout.page)
        first = image.keyframe
        refuse_bomb(image.shape, channels)
        samples, kinds = int(first.samplesperpixel), [int(kind) for kind in first.extrasamples]
        colours = COLOURS.get(getattr(first.photometric, 'name', ''), samples)
        alpha = kinds in ([1], [2]) and samples == colours + 1
        picture = samples == colours or alpha
        single = layout.page is not None or len(image) == 1
        single = single and first.index == (layout.page or 0)
        if single and picture and samples <= 4 and channels in (1, 3) and layout.whole:
            shallow = first.dtype is not None and np.dtype(first.dtype).itemsize == 1
            # Pillow reads no big-endian BigTIFF.
            if shallow and not (file.is_bigtiff and file.byteorder == '>'):
                return None
        whole = _values_of_tiff(image)
        if whole is None:
            if not (
                single and samples == colours and samples in (1, 3) and first.planarconfig == 1
            ):
                raise ImportError(f"its {first.compression.name} needs pip install 'a2mim[geo]'")
            whole = _opencv(data, channels, layout, 1)
    if alpha and channels in (1, 3) and layout.whole:
        values = _without_alpha(whole.values, image.axes.index('S'), kinds[0])
        whole = whole._replace(values=values)
    # The pages of a stack are no colours.
    return whole._replace(colour=single and picture, **_notes_of_tiff(first))


def _values_of_tiff(image: Any) -> Stored | None:
    """The array of a TIFF file; None if that needs a decoder which is not installed."""
    first = image.keyframe
    check_type(first.dtype)
    meaning = getattr(first.photometric, 'name', '')
    if meaning == 'PALETTE':
        raise ValueError('its values are numbers of colours; write them as RGB, 8 bits each')
    try:
        values = image.asarray()
    except ValueError as error:
        if 'imagecodecs' in str(error):
            return None
        raise
    if meaning == 'MINISWHITE' and values.dtype.kind == 'u':
        values = np.iinfo(values.dtype).max - values
    return Stored(values, image.axes)


def _notes_of_tiff(page: Any) -> dict[str, Any]:
    """What the tags of a page say of missing values, of other than 8 bits, and of rotation."""
    stated = 'GDAL_NODATA' in page.tags and page.dtype != 'uint8'
    return dict(
        nodata=page.nodata if stated else None, orientation=page.tags.valueof(ORIENTATION, 1)
    )


def _image_of_tiff(file: tifffile.TiffFile, page: int | None) -> Any:
    """The series of pages, or the page, that is the image; previews and masks are left out."""
    if page is not None:
        if page >= len(file.pages):
            raise ValueError(f'it has {len(file.pages)} pages, and page={page} is counted from 0')
        return file.pages[page]
    kept = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.subfiletype & 4)]
    if len(kept) != 1:
        shapes = ', '.join(str(series.shape) for series in kept[:4])
        raise ValueError(
            f'it has {len(file.pages)} pages, which are {len(kept)} images (shapes {shapes}); '
            'choose one with page= of the source'
        )
    return kept[0]


def _without_alpha(values: np.ndarray, axis: int, kind: int) -> np.ndarray:
    """Drop the last band if it is transparency: of kind 1, or a mask of kind 2."""
    alpha = values.take(-1, axis)
    if kind == 1 or (alpha.dtype.kind == 'u' and _is_mask(alpha)):
        return values.take(range(values.shape[axis] - 1), axis)
    return values


def _beyond_8_bits(data: bytes, channels: int) -> Stored | None:
    """A JPEG 2000 or AVIF file of other than 8 bits or 1 or 3 channels, which Pillow would cut."""
    if data.startswith(JPEG_2000_MARKS):
        size = data.index(b'\xff\x51') + 6  # behind the mark, its length and the capabilities
        edges = [int.from_bytes(data[size + at : size + at + 4], 'big') for at in (0, 4, 8, 12)]
        parts, depth = (
            int.from_bytes(data[size + 32 : size + 34], 'big'),
            (data[size + 34] & 127) + 1,
        )
        refuse_bomb((edges[1] - edges[3], edges[0] - edges[2], parts), channels)
        deep = depth > 8 or parts not in (1, 3) or channels not in (1, 3)
        decoder = 'jpeg2k_decode'
    else:
        config = data.find(b'av1C')
        deep, decoder = config >= 0 and bool(data[config + 6] & 0x40), 'avif_decode'
        with open_picture(data) as picture:
            refuse_bomb((*picture.size, 4), channels)
    if not deep:
        return None
    codecs = _optional('imagecodecs', 'geo')
    values = getattr(codecs, decoder)(data)
    return Stored(values, 'YX' if values.ndim == 2 else 'YXS', colour=True)


def _dicom(data: bytes, channels: int, layout: Layout) -> Stored:
    """The pixels of a DICOM file, in the units that its rescale slope and intercept give."""
    pydicom = _optional('pydicom', 'dicom')
    record = pydicom.dcmread(io.BytesIO(data))
    frames, samples = int(record.get('NumberOfFrames', 1)), int(record.SamplesPerPixel)
    shape = (frames, int(record.Rows), int(record.Columns), samples)
    refuse_bomb(shape, channels)
    values = record.pixel_array
    if layout.page is not None and frames > 1:
        values = values[layout.page]
    slope, intercept = (
        float(record.get('RescaleSlope', 1)),
        float(record.get('RescaleIntercept', 0)),
    )
    bits, signed = int(record.BitsStored), int(record.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if record.PhotometricInterpretation == 'MONOCHROME1':  # the largest value is black
        values = (low + high - values.astype(np.int64)).astype(values.dtype)
    if (slope, intercept) != (1, 0):
        kind = _type_for(slope, intercept, low, high)
        values = (values.astype(np.float64) * slope + intercept).astype(kind)
    return Stored(values, colour=frames == 1 or layout.page is not None)


def _type_for(slope: float, intercept: float, low: int, high: int) -> type:
    """The type that holds a whole range once rescaled, so that all slices of a scan have one."""
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if not (slope.is_integer() and intercept.is_integer()):
        return np.float32
    small = np.iinfo(np.int16)
    return np.int16 if small.min <= ends[0] and ends[1] <= small.max else np.int32


def _optional(package: str, extra: str) -> Any:
    """A package that only some kinds of files need.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"it needs {package}: pip install 'a2mim[{extra}]'") from error


def decode_jpeg(data: bytes, channels: int, shrink_to: int | None) -> Tensor | None:
    """Decode a grey or colour JPEG file by simplejpeg or OpenCV, with EXIF rotation.

    Both use libjpeg-turbo, as Pillow does, and give the same pixels; simplejpeg is the fastest. It
    knows no EXIF rotation, and what it refuses is left to OpenCV.

    Args:
        data: The bytes of the file.
        channels: 1 or 3.
        shrink_to: See ``read_image``.

    Returns:
        (C, H, W), uint8; None for files to be left to Pillow, damaged ones among them.
    """
    frame = _frame(data)
    # Both fill the rest of a truncated file with grey; Pillow refuses it.
    if frame is None or END not in data[-32:]:
        return None
    height, width, components, behind = frame
    # OpenCV and Pillow convert CMYK differently.
    if components not in (1, 3) or height * width > MAX_PIXELS:
        return None
    factor = 1
    if shrink_to is not None:
        short = min(height, width)
        factor = next(f for f in REDUCTIONS if f == 1 or short >= f * shrink_to)
    pixels = None
    if simplejpeg is not None and _is_upright(data, behind):
        # The smallest scale that is at least this size is 1 / factor.
        least = (-(-height // factor), -(-width // factor)) if factor > 1 else (0, 0)
        with suppress(ValueError):  # warnings of libjpeg among them, which OpenCV only prints
            pixels = simplejpeg.decode_jpeg(data, 'RGB' if channels == 3 else 'GRAY', 0, 0, *least)
    if pixels is None:
        colour = cv2.IMREAD_COLOR_RGB if channels == 3 else 0
        with suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCTIONS[factor] | colour)
    if pixels is None:
        return None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def _frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Height, width and number of components, and where the frame header (ITU T.81, B.2.2) ends.

    None without one of a baseline, extended or progressive file: OpenCV crashes on lossless ones.
    """
    position = len(START) - 1
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        end = position + 2 + (data[position + 2] << 8 | data[position + 3])
        if 0xC0 <= marker <= 0xC2:
            height, width, components = FRAME.unpack_from(data, position + 5)
            return height, width, components, end
        position = end
    return None


def _is_upright(data: bytes, position: int) -> bool:
    """Whether no header before the first scan can hold an EXIF orientation other than 1.

    Args:
        data: The bytes of a JPEG file.
        position: Where a segment begins; headers may come on both sides of it.
    """
    while position + 4 < len(data) and data[position] == 0xFF and data[position + 1] != SCAN:
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    exif = data.find(b'Exif', 0, position)
    if exif < 0:
        return True
    rest = UPRIGHT.sub(b'', data[exif:position])
    return not any(tag in rest for tag in ORIENTATION_TAGS)
