"""Pixels keep the type, the bands and the page that the file and the options give them."""

import ast
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from a2mim.datasets import EpochSampler, ImageList, MaskedImageDataset, WebShards
from a2mim.datasets.archives import write_index
from a2mim.datasets.datasets import channels_last_collate
from a2mim.datasets.decoding import IMAGE_SUFFIXES, read_image
from a2mim.datasets.image_files import ImageFolder
from a2mim.errors import BadDataError
from toy_run import ROOT

SHAPE = HEIGHT, WIDTH = 40, 56  # higher and wider than any number of bands
RNG = np.random.default_rng(0)


def values(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Random values over the range of a type, of a float from -1 to 1."""
    if np.dtype(dtype).kind == 'f':
        return RNG.uniform(-1, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def write_tiff(path: Path, array: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'int32', 'float16', 'float32'])
@pytest.mark.parametrize('suffix', ['npy', 'npz', 'tif'])
def test_every_type_arrives_as_it_is_in_any_byte_order(tmp_path, suffix, dtype, order):
    array, path = values(dtype, (*SHAPE, 5)), tmp_path / f'a.{suffix}'
    if suffix == 'tif':
        write_tiff(path, array, byteorder=order, photometric='minisblack', planarconfig='contig')
    elif suffix == 'npy':
        np.save(path, array.astype(np.dtype(dtype).newbyteorder(order)))
    else:
        np.savez_compressed(path, array)
    image = read_image(str(path), 5)
    assert image.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), array)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(compression='zlib'),
        dict(compression='zlib', predictor=True),
        dict(tile=(16, 32)),
        dict(rowsperstrip=7),
        dict(bigtiff=True),
    ],
    ids=str,
)
def test_planes_are_the_picture_that_interleaved_pixels_are(tmp_path, options, order, dtype):
    colour, read = values(dtype, (*SHAPE, 3)), []
    for planar, array in (('contig', colour), ('separate', colour.transpose(2, 0, 1))):
        path = write_tiff(
            tmp_path / f'{planar}.tif',
            np.ascontiguousarray(array),
            photometric='rgb',
            planarconfig=planar,
            byteorder=order,
            **options,
        )
        read.append(read_image(str(path)).permute(1, 2, 0).numpy())
    for found in read:
        np.testing.assert_array_equal(found, colour)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'float32'])
@pytest.mark.parametrize(('stored', 'asked'), [(12, 3), (5, 1), (3, 1), (4, 3), (2, 3), (7, 6)])
def test_another_number_of_bands_or_pages_is_refused_with_both_numbers(
    tmp_path, stored, asked, dtype
):
    write_tiff(tmp_path / 'a.tif', values(dtype, (stored, *SHAPE)), photometric='minisblack')
    np.save(tmp_path / 'b.npy', values(dtype, (stored, *SHAPE)))
    np.save(tmp_path / 'c.npy', values(dtype, (*SHAPE, stored)))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(BadDataError, match=rf'{stored} bands or pages, {asked} asked.*axes'):
            read_image(str(path), asked)


@pytest.mark.parametrize('asked', [1, 3])
def test_pages_that_differ_in_size_are_refused_but_a_preview_is_left_out(tmp_path, asked):
    grey = values('uint8')
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        file.write(grey)
        file.write(grey[:9, :9])
    with pytest.raises(BadDataError, match=r'2 pages, which are 2 images.*page='):
        read_image(str(tmp_path / 'a.tif'), asked)
    with tifffile.TiffWriter(tmp_path / 'b.tif') as file:
        file.write(grey)
        file.write(grey[:9, :9], subfiletype=1)
    assert torch.equal(read_image(str(tmp_path / 'b.tif'), 1)[0], torch.from_numpy(grey))


def test_the_options_choose_bands_a_page_and_axes(tmp_path):
    cube = values('uint16', (6, *SHAPE))
    path = str(write_tiff(tmp_path / 'a.tif', cube, photometric='minisblack'))
    found = read_image(path, 3, bands=[3, 2, 1])
    np.testing.assert_array_equal(found.numpy(), cube[[3, 2, 1]])
    np.testing.assert_array_equal(read_image(path, 1, page=4)[0].numpy(), cube[4])
    np.testing.assert_array_equal(read_image(path, 3, page=4)[2].numpy(), cube[4])
    with pytest.raises(BadDataError, match=r'6 bands or pages.*number 6'):
        read_image(path, 1, bands=[6])
    with pytest.raises(BadDataError, match=r'6 pages, and page=6'):
        read_image(path, 1, page=6)
    stack = values('int16', (2, *SHAPE, 3))
    np.save(tmp_path / 'b.npy', stack)
    with pytest.raises(BadDataError, match=r'6 asked.*axes='):
        read_image(str(tmp_path / 'b.npy'), 6)
    found = read_image(str(tmp_path / 'b.npy'), 6, axes='ZYXC').numpy()
    np.testing.assert_array_equal(found, stack.transpose(0, 3, 1, 2).reshape(6, *SHAPE))
    found = read_image(str(tmp_path / 'b.npy'), 2, axes='ZYXC', bands=[5, 0]).numpy()
    np.testing.assert_array_equal(found, [stack[1, ..., 2], stack[0, ..., 0]])


def test_options_that_cannot_be_met_are_refused_before_a_file_is_read():
    for options in (dict(bands=[0, 1]), dict(bands=[-1, 0, 1]), dict(page=-1), dict(axes='YC')):
        with pytest.raises(ValueError, match=r'bands|page|axes'):
            read_image('nowhere.tif', 3, **options)


def test_a_source_takes_the_options(tmp_path):
    cube = values('uint16', (6, *SHAPE))
    write_tiff(tmp_path / 'a.tif', cube, photometric='minisblack')
    source = ImageFolder(str(tmp_path), channels=2, bands=[5, 0])
    np.testing.assert_array_equal(source.load(0).numpy(), cube[[5, 0]])
    with pytest.raises(ValueError, match='channels=3'):
        ImageFolder(str(tmp_path), channels=3, bands=[5, 0])


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_transparency_is_dropped_and_a_fourth_band_is_not(tmp_path, dtype):
    colour, top = values(dtype, (*SHAPE, 3)), np.iinfo(dtype).max
    mask = np.where(values('uint8', (*SHAPE, 1)) > 127, top, 0).astype(dtype)
    band = values(dtype, (*SHAPE, 1))
    with_mask = np.concatenate([colour, mask], axis=2)
    with_band = np.concatenate([colour, band], axis=2)
    kept = [(with_mask, 'unassalpha'), (with_mask, 'assocalpha')]
    for number, (array, kind) in enumerate(kept):
        path = write_tiff(tmp_path / f'{number}.tif', array, photometric='rgb', extrasamples=[kind])
        assert read_image(str(path)).shape == (3, *SHAPE)
        assert read_image(str(path), 4).shape == (4, *SHAPE)
    for number, kind in enumerate(['unassalpha', 'unspecified']):
        path = write_tiff(
            tmp_path / f'{number}.tif', with_band, photometric='rgb', extrasamples=[kind]
        )
        with pytest.raises(BadDataError, match='4 bands or pages, 3 asked'):
            read_image(str(path))
        found = read_image(str(path), bands=[0, 1, 2]).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, colour)
    cv2.imwrite(str(tmp_path / 'a.png'), with_band[..., [2, 1, 0, 3]])
    found = read_image(str(tmp_path / 'a.png')).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, colour)
    found = read_image(str(tmp_path / 'a.png'), 4).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, with_band)


def test_16_bit_colour_becomes_grey_by_luma_and_is_turned_as_exif_says(tmp_path):
    colour = values('uint16', (*SHAPE, 3))
    path = write_tiff(
        tmp_path / 'a.tif', colour, photometric='rgb', extratags=[(274, 3, 1, 6, True)]
    )
    found = read_image(str(path), 1)[0].numpy()
    expected = np.rot90(colour @ np.array([0.299, 0.587, 0.114]), -1)
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_a_missing_value_is_filled_with_the_mean_of_its_band(tmp_path):
    array = values('float32', (*SHAPE, 2))
    array[:5, 3, 1], array[7, 7, 1] = np.nan, np.inf
    np.save(tmp_path / 'a.npy', array)
    image = read_image(str(tmp_path / 'a.npy'), 2).permute(1, 2, 0).numpy()
    intact = np.isfinite(array)
    np.testing.assert_array_equal(image[intact], array[intact])
    np.testing.assert_allclose(image[~intact], array[..., 1][intact[..., 1]].mean(), rtol=1e-5)
    array[..., 1] = np.nan
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(BadDataError, match='band 1 has no value'):
        read_image(str(tmp_path / 'a.npy'), 2)


@pytest.mark.parametrize('nodata', [-9999, -32768, 0])
@pytest.mark.parametrize('by', ['metadata', 'option'])
def test_the_nodata_number_of_the_file_or_of_the_option_is_missing(tmp_path, by, nodata):
    array = RNG.integers(100, 900, SHAPE).astype(np.int16)
    array[4:9, 10:20] = nodata
    tags = [(42113, 's', 0, str(nodata), True)] if by == 'metadata' else []
    path = write_tiff(tmp_path / 'a.tif', array, extratags=tags)
    options = {} if by == 'metadata' else dict(nodata=nodata)
    image = read_image(str(path), 1, **options)[0].numpy()
    valid = array != nodata
    np.testing.assert_array_equal(image[valid], array[valid])
    assert set(image[~valid]) == {round(array[valid].mean())}


def test_a_lzw_file_is_read_or_the_error_names_the_extra(tmp_path):
    colour = values('uint16', (*SHAPE, 3))
    cv2.imwrite(str(tmp_path / 'a.tif'), colour[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    found = read_image(str(tmp_path / 'a.tif')).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, colour)


def dicom(path: Path, stored: np.ndarray, slope: float = 1, intercept: float = 0) -> None:
    """A CT slice of 12 bits, (H, W), or several, (frames, H, W)."""
    pydicom = pytest.importorskip('pydicom')
    record = pydicom.Dataset()
    record.file_meta = pydicom.dataset.FileMetaDataset()
    record.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    record.file_meta.MediaStorageSOPClassUID = record.SOPClassUID = '1.2.840.10008.5.1.4.1.1.2'
    record.file_meta.MediaStorageSOPInstanceUID = record.SOPInstanceUID = '1.2.3'
    record.Rows, record.Columns = stored.shape[-2:]
    record.SamplesPerPixel, record.PhotometricInterpretation = 1, 'MONOCHROME2'
    record.BitsAllocated, record.BitsStored, record.HighBit = 16, 12, 11
    record.PixelRepresentation, record.PixelData = 0, stored.astype('<u2').tobytes()
    record.RescaleSlope, record.RescaleIntercept = slope, intercept
    if stored.ndim == 3:
        record.NumberOfFrames = len(stored)
    record.save_as(path, enforce_file_format=True)


def test_a_dicom_slice_is_read_in_its_units(tmp_path):
    stored = RNG.integers(0, 4096, (3, *SHAPE))
    dicom(tmp_path / 'a.dcm', stored[0], 1, -1024)
    found = read_image(str(tmp_path / 'a.dcm'), 1)
    assert found.dtype == torch.int16
    np.testing.assert_array_equal(found[0].numpy(), stored[0] - 1024)
    dicom(tmp_path / 'b.dcm', stored, 0.5, -10)
    np.testing.assert_array_equal(read_image(str(tmp_path / 'b.dcm'), 3), stored * 0.5 - 10)
    np.testing.assert_array_equal(
        read_image(str(tmp_path / 'b.dcm'), 1, page=2)[0], stored[2] * 0.5 - 10
    )
    with pytest.raises(BadDataError, match='3 bands or pages, 1 asked'):
        read_image(str(tmp_path / 'b.dcm'), 1)


@pytest.mark.parametrize('bits', [8, 12, 16])
def test_jpeg_2000_keeps_its_values(tmp_path, bits):
    imagecodecs = pytest.importorskip('imagecodecs')
    stored = RNG.integers(0, 2**bits, SHAPE).astype(np.uint8 if bits == 8 else np.uint16)
    data = imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=bits, reversible=True)
    (tmp_path / 'a.jp2').write_bytes(data)
    np.testing.assert_array_equal(read_image(str(tmp_path / 'a.jp2'), 1)[0].numpy(), stored)


@pytest.mark.parametrize(
    ('package', 'extra', 'suffix', 'data'),
    [
        ('pydicom', 'dicom', '.dcm', bytes(128) + b'DICM' + bytes(100)),
        (
            'imagecodecs',
            'geo',
            '.jp2',
            b'\xff\x4f\xff\x51\0\x29\0\0' + b'\0\0\0\x08' * 2 + bytes(8) + b'\0\0\0\x08' * 2
            + bytes(8) + b'\0\x01\x0f\x01\x01',
        ),
    ],
)  # fmt: skip
def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path, monkeypatch, package, extra, suffix, data
):
    monkeypatch.setitem(__import__('sys').modules, package, None)
    (tmp_path / f'a{suffix}').write_bytes(data)
    with pytest.raises(BadDataError, match=rf"pip install 'a2mim\[{extra}\]'"):
        read_image(str(tmp_path / f'a{suffix}'), 1)


@pytest.mark.parametrize('form', ['EPS', 'PDF', 'ICNS', 'SGI', 'PCX', 'DDS'])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif', 'tga'])
def test_a_format_that_is_not_listed_reaches_no_decoder(tmp_path, monkeypatch, form, suffix):
    def fail(*args: object, **kwargs: object) -> None:
        pytest.fail('Ghostscript was called')

    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', fail)
    Image.fromarray(values('uint8', (64, 64, 3))).save(tmp_path / 'a', form)
    (tmp_path / 'a').rename(tmp_path / f'a.{suffix}')
    with pytest.raises(BadDataError):
        read_image(str(tmp_path / f'a.{suffix}'))


@pytest.mark.parametrize('suffix', ['jfif', 'avif', 'tga'])
def test_every_listed_ending_is_read(tmp_path, suffix):
    form = dict(jfif='JPEG').get(suffix, suffix.upper())
    smooth = np.asarray(Image.fromarray(values('uint8', (4, 5, 3))).resize(SHAPE[::-1]))
    Image.fromarray(smooth).save(tmp_path / f'a.{suffix}', form)
    assert f'.{suffix}' in IMAGE_SUFFIXES
    found = read_image(str(tmp_path / f'a.{suffix}')).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - smooth).mean() < 4


def test_an_archive_of_several_arrays_is_refused_with_their_names(tmp_path):
    np.savez(tmp_path / 'a.npz', image=values('uint8'), mask=values('uint8'))
    with pytest.raises(BadDataError, match=r'image\.npy.*mask\.npy'):
        read_image(str(tmp_path / 'a.npz'), 1)
    header = io.BytesIO()
    form = {'descr': '<f4', 'fortran_order': False, 'shape': (10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, form)
    with zipfile.ZipFile(tmp_path / 'b.npz', 'w') as archive:
        archive.writestr('arr_0.npy', header.getvalue())
    with pytest.raises(BadDataError, match='claims the shape'):
        read_image(str(tmp_path / 'b.npz'), 1)


def test_pillow_is_told_which_formats_to_open():
    for path in [*(ROOT / 'a2mim').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('Image.open'):
                assert 'formats' in {word.arg for word in node.keywords}, f'{path}:{node.lineno}'


# Before pixels could have other types.
EIGHT_BITS = '151745e5be09d7e7d09140c87db4a014604bab810585a8a6748eb640f052a194'


def test_8_bit_files_come_in_the_order_and_with_the_pixels_that_they_had(tmp_path):
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    for number in range(4):
        colour = rng.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
        Image.fromarray(colour).save(tmp_path / f'{number}.png')
        Image.fromarray(colour[..., 0]).save(tmp_path / f'{number}.bmp')
        tifffile.imwrite(tmp_path / f'{number}.tif', colour, photometric='rgb')
        np.save(tmp_path / f'{number}.npy', colour)
    dataset = MaskedImageDataset(
        source=dict(type='ImageFolder', root=str(tmp_path)),
        pipeline=[dict(type='CenterCrop', size=16), dict(type='RandomFlip')],
        mask=dict(type='PatchMask', image_size=16, block_size=4),
        on_bad_image='substitute',
    )
    sampler = EpochSampler(dataset, shuffle=True, seed=3)
    for key in (*sampler.keys(0), *sampler.keys(1)):
        batch = channels_last_collate([dataset[key]])
        digest.update(repr(tuple(key)).encode())
        for name in sorted(batch):
            values = batch[name]
            digest.update(name.encode() + str(values.dtype).encode() + values.numpy().tobytes())
    assert digest.hexdigest() == EIGHT_BITS


@pytest.mark.parametrize('kind', ['shards', 'list'])
def test_every_source_takes_the_options(tmp_path, kind):
    cube = values('uint16', (6, *SHAPE))
    write_tiff(tmp_path / 'a.tif', cube, photometric='minisblack')
    if kind == 'list':
        (tmp_path / 'list.txt').write_text('a.tif\n')
        source = ImageList(str(tmp_path / 'list.txt'), str(tmp_path), channels=2, bands=[5, 0])
    else:
        with tarfile.open(tmp_path / '0.tar', 'w') as archive:
            archive.add(tmp_path / 'a.tif', 'a.tif')
        write_index(tmp_path)
        source = WebShards(str(tmp_path), channels=2, bands=[5, 0])
    np.testing.assert_array_equal(source.load(0).numpy(), cube[[5, 0]])
