"""Every kind of file gives the pixels that were put into it."""

import warnings

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from a2mim.datasets.decoding import read_image

HEIGHT, WIDTH = 48, 64
RNG = np.random.default_rng(0)
# Smooth, so that JPEG keeps it; wider than high, so that a rotation shows.
COLOUR = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
)
GREY = COLOUR[..., 0].copy()
WIDE = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 21  # up to 64491


def levels(path, dtype=torch.uint8, **options) -> np.ndarray:
    """What we read, (H, W, C), in the type of the file."""
    image = read_image(str(path), **options)
    assert image.dtype == dtype
    return image.permute(1, 2, 0).numpy()


def save(picture: Image.Image, path, **options):
    picture.save(path, **options)
    return path


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'tif', 'ppm', 'webp'])
def test_colour_files_are_read_without_loss(tmp_path, suffix):
    options = {'lossless': True} if suffix == 'webp' else {}
    path = save(Image.fromarray(COLOUR), tmp_path / f'a.{suffix}', **options)
    np.testing.assert_array_equal(levels(path), COLOUR)


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}], ids=str)
def test_the_fast_decoder_gives_the_pixels_of_pillow(tmp_path, options):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.jpg', quality=90, **options)
    np.testing.assert_array_equal(levels(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_a_grey_file_becomes_three_equal_channels(tmp_path, suffix):
    path = save(Image.fromarray(GREY), tmp_path / f'a.{suffix}')
    expected = np.asarray(Image.open(path))
    np.testing.assert_array_equal(levels(path), np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_a_grey_file_can_stay_one_channel(tmp_path, suffix):
    path = save(Image.fromarray(GREY), tmp_path / f'a.{suffix}')
    np.testing.assert_array_equal(levels(path, channels=1)[..., 0], np.asarray(Image.open(path)))


def test_a_colour_jpeg_can_become_grey(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.jpg', quality=95)
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(levels(path, channels=1)[..., 0] - luma).mean() < 3


def test_transparency_is_dropped(tmp_path):
    picture = Image.fromarray(COLOUR)
    picture.putalpha(Image.fromarray(GREY))
    np.testing.assert_array_equal(levels(save(picture, tmp_path / 'a.png')), COLOUR)


def test_a_transparent_palette_gives_its_colours_without_a_warning(tmp_path):
    picture = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(picture.convert('RGB'))
    path = save(picture, tmp_path / 'a.png', transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        np.testing.assert_array_equal(levels(path), expected)


def test_a_bilevel_file_becomes_black_and_white(tmp_path):
    path = save(Image.fromarray(GREY > 127), tmp_path / 'a.png')
    np.testing.assert_array_equal(levels(path)[..., 1], np.where(GREY > 127, 255, 0))


def test_cmyk_becomes_rgb(tmp_path):
    path = save(Image.fromarray(COLOUR).convert('CMYK'), tmp_path / 'a.jpg', quality=98)
    assert np.abs(levels(path).astype(int) - COLOUR).mean() < 4


@pytest.mark.parametrize('suffix', ['png', 'tif', 'pgm'])
def test_16_bit_grey_keeps_every_value(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f'a.{suffix}'), WIDE)
    found = levels(tmp_path / f'a.{suffix}', torch.uint16)
    np.testing.assert_array_equal(found, np.stack([WIDE] * 3, axis=-1))


@pytest.mark.parametrize('suffix', ['png', 'tif', 'ppm'])
def test_16_bit_colour_keeps_every_value(tmp_path, suffix):
    colour = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], axis=-1)
    cv2.imwrite(str(tmp_path / f'a.{suffix}'), colour[..., ::-1])
    np.testing.assert_array_equal(levels(tmp_path / f'a.{suffix}', torch.uint16), colour)


# EXIF orientation -> how to turn the stored rows and columns into the upright picture.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize('orientation', UPRIGHT)
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOUR), tmp_path / f'a.{suffix}', exif=exif)
    expected = UPRIGHT[orientation](np.asarray(Image.open(path)))
    np.testing.assert_array_equal(levels(path), expected)


@pytest.mark.parametrize('shape', [(HEIGHT, WIDTH, 6), (6, HEIGHT, WIDTH)], ids=str)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', ['tif', 'npy'])
def test_bands_are_read_first_or_last(tmp_path, suffix, dtype, shape):
    top = np.iinfo(dtype).max
    bands = RNG.integers(0, top, shape, endpoint=True, dtype=dtype)
    path = tmp_path / f'a.{suffix}'
    if suffix == 'tif':
        tifffile.imwrite(path, bands, photometric='minisblack')
    else:
        np.save(path, bands)
    last = bands if shape[-1] == 6 else bands.transpose(1, 2, 0)
    found = levels(path, getattr(torch, dtype.__name__), channels=6)
    np.testing.assert_array_equal(found, last)


def test_a_grey_array_is_one_channel(tmp_path):
    np.save(tmp_path / 'a.npy', GREY)
    np.testing.assert_array_equal(levels(tmp_path / 'a.npy', channels=1)[..., 0], GREY)


def test_a_file_of_another_number_of_channels_is_refused(tmp_path):
    np.save(tmp_path / 'a.npy', np.zeros((HEIGHT, WIDTH, 5), np.uint8))
    with pytest.raises(ValueError, match=r'a\.npy.*5 bands or pages, 6 asked.*shape \(48, 64, 5\)'):
        read_image(str(tmp_path / 'a.npy'), channels=6)


@pytest.mark.parametrize('dtype', ['float64', 'int8', 'uint32', 'complex64', 'bool'])
def test_other_types_are_refused_by_name(tmp_path, dtype):
    np.save(tmp_path / 'a.npy', np.zeros((HEIGHT, WIDTH, 3), dtype))
    with pytest.raises(ValueError, match=f'{dtype}; write them as one of uint8, uint16'):
        read_image(str(tmp_path / 'a.npy'))


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'npy', 'tif'])
@pytest.mark.parametrize('kept', [0, 3, 0.5], ids=['empty', 'three bytes', 'half'])
def test_a_damaged_file_is_refused_by_name(tmp_path, suffix, kept):
    path = tmp_path / f'a.{suffix}'
    if suffix == 'npy':
        np.save(path, COLOUR)
    else:
        Image.fromarray(COLOUR).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(ValueError, match=rf"cannot read '.*a\.{suffix}'"):
        read_image(str(path))


def test_a_complete_jpeg_with_something_behind_it_is_read(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.jpg')
    expected = np.asarray(Image.open(path))
    path.write_bytes(path.read_bytes() + bytes(1000))
    np.testing.assert_array_equal(levels(path), expected)


def test_a_jpeg_under_another_name_is_recognised(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / 'a.png', format='JPEG')
    np.testing.assert_array_equal(levels(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize(('shrink_to', 'factor'), [(300, 1), (150, 2), (76, 4), (10, 8)])
def test_large_jpegs_shrink_while_the_short_side_keeps_its_pixels(tmp_path, shrink_to, factor):
    large = Image.fromarray(COLOUR).resize((400, 304))
    path = save(large, tmp_path / 'a.jpg', quality=95)
    shrunk = levels(path, shrink_to=shrink_to)
    assert shrunk.shape == (304 // factor, 400 // factor, 3)
    expected = np.asarray(large.reduce(factor), dtype=int)
    assert np.abs(shrunk - expected).mean() < 3
