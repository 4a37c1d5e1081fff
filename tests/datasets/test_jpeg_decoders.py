"""JPEG files of every kind have the same pixels, or the same error, with and without simplejpeg."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from a2mim.datasets import decoding
from a2mim.datasets.decoding import decode_image
from a2mim.errors import BadDataError

simplejpeg = pytest.importorskip('simplejpeg')
imagecodecs = pytest.importorskip('imagecodecs')

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (7, 5), (33, 31), (100, 77)]
ORIENTATION, THUMBNAIL = 0x0112, b'\xff\xd8' + bytes(range(256))


def picture(height: int, width: int) -> Image.Image:
    small = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height)))
    noisy = smooth + RNG.normal(0, 8, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, 'JPEG', **options)
    return file.getvalue()


def with_exif(data: bytes, orientation: int | None, order: str, late: bool = False) -> bytes:
    """The file with EXIF of a camera; ``late`` puts it between the frame header and the scan."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = 'a camera'
    if orientation is not None:
        exif[ORIENTATION] = orientation
    body = exif.tobytes() + THUMBNAIL
    segment = b'\xff\xe1' + (len(body) + 2).to_bytes(2, 'big') + body
    place = data.index(b'\xff\xda') if late else 2
    return data[:place] + segment + data[place:]


KINDS = {
    'grey': lambda im: encoded(im.convert('L')),
    '4:4:4': lambda im: encoded(im, subsampling=0),
    '4:2:2': lambda im: encoded(im, subsampling=1),
    '4:2:0': lambda im: encoded(im, subsampling=2),
    '4:4:0': lambda im: simplejpeg.encode_jpeg(np.asarray(im), colorsubsampling='440'),
    '4:1:1': lambda im: simplejpeg.encode_jpeg(np.asarray(im), colorsubsampling='411'),
    'progressive': lambda im: encoded(im, progressive=True, quality=50),
    'restarts': lambda im: encoded(im, restart_marker_rows=1),
    'stored as RGB': lambda im: encoded(im, keep_rgb=True),
    'colour profile': lambda im: encoded(im, icc_profile=bytes(70_000)),
    'upright EXIF': lambda im: with_exif(encoded(im), 1, '<'),
}
# simplejpeg refuses these, or cannot show them upright.
LEFT = {
    'CMYK': lambda im: encoded(im.convert('CMYK')),
    'lossless': lambda im: imagecodecs.jpeg8_encode(np.asarray(im), lossless=True),
    'cut and closed': lambda im: encoded(im, quality=98)[:-60] + b'\xff\xd9',
    **{
        f'orientation {turn}, {order}, {late}': lambda im, turn=turn, order=order, late=late: (
            with_exif(encoded(im), turn, order, late)
        )
        for turn, order, late in [(2, '<', False), (3, '>', True), (6, '>', False), (8, '<', True)]
    },
}
REFUSED = {
    '12 bits': lambda im: imagecodecs.jpeg8_encode(
        np.asarray(im).astype(np.uint16) * 16, bitspersample=12
    ),
    'truncated': lambda im: encoded(im)[:-20],
}


@pytest.fixture(autouse=True)
def room_for_small_files(monkeypatch):
    monkeypatch.setattr(ImageFile, 'MAXBLOCK', 2**20)


@pytest.fixture
def decoded(monkeypatch):
    """The number of images that simplejpeg has decoded."""
    done = []

    class Watched:
        @staticmethod
        def decode_jpeg(*args):
            done.append(simplejpeg.decode_jpeg(*args))
            return done[-1]

    monkeypatch.setattr(decoding, 'simplejpeg', Watched)
    return done


def without_simplejpeg(monkeypatch, *args) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(decoding, 'simplejpeg', None)
        return decode_image(*args)


@pytest.mark.parametrize('kind', KINDS | LEFT)
@pytest.mark.parametrize('channels', [1, 3])
def test_the_pixels_do_not_depend_on_the_decoder(kind, channels, decoded, monkeypatch):
    calls = 0
    for size in SIZES if kind in KINDS else SIZES[2:]:
        data = (KINDS | LEFT)[kind](picture(*size))
        for shrink_to in (None, 1, 4, 20):
            args = data, '.jpg', channels, shrink_to
            found = decode_image(*args)
            assert found.dtype == torch.uint8
            assert torch.equal(found, without_simplejpeg(monkeypatch, *args))
            calls += 1
    assert len(decoded) == (calls if kind in KINDS else 0)


@pytest.mark.parametrize('kind', sorted({*KINDS, *LEFT} - {'cut and closed'}))
def test_the_pixels_are_those_of_pillow(kind):
    data = (KINDS | LEFT)[kind](picture(33, 31))
    with decoding.open_picture(data) as file:
        turned = decoding.ImageOps.exif_transpose(file).convert('RGB')
    np.testing.assert_array_equal(decode_image(data, '', 3).permute(1, 2, 0), np.asarray(turned))


@pytest.mark.parametrize('kind', REFUSED)
def test_errors_do_not_depend_on_the_decoder(kind, decoded, monkeypatch):
    data = REFUSED[kind](picture(33, 31))
    with pytest.raises(BadDataError) as found:
        decode_image(data, '.jpg', 3)
    with pytest.raises(BadDataError) as other:
        without_simplejpeg(monkeypatch, data, '.jpg', 3)
    assert str(found.value) == str(other.value)
    assert not decoded


def test_a_damaged_file_gives_what_it_gives_without_simplejpeg(monkeypatch):
    intact = encoded(picture(33, 31))
    for position in range(150, len(intact), 17):
        data = bytearray(intact)
        data[position] ^= 0x5A
        results = []
        for decode in (decode_image, partial(without_simplejpeg, monkeypatch)):
            try:
                results.append(decode(bytes(data), '.jpg', 3).tolist())
            except BadDataError as error:
                results.append(str(error))
        assert results[0] == results[1]
