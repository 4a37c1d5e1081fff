"""Pixels of every type become [0, 255] by the stated rule, from the file to the device."""

import copy

import numpy as np
import pytest
import tifffile
import torch

import a2mim
from a2mim.datasets import ImageFolder
from a2mim.datasets.datasets import channels_last_collate
from a2mim.datasets.transforms import Pipeline, resize
from a2mim.inference import as_batch
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.scale import check_scale, measure, range_warning
from a2mim.weights.load_model import InputSpec
from small_models import build, pretraining
from toy_run import load_tool

RNG = np.random.default_rng(0)
INTEGERS = ['uint8', 'uint16', 'int16', 'int32']
TYPES = [*INTEGERS, 'float16', 'float32']


def pixels(dtype: str, shape: tuple[int, ...] = (2, 3, 8, 8)) -> torch.Tensor:
    if dtype.startswith('float'):
        return torch.from_numpy(RNG.uniform(-3, 9, shape).astype(dtype))
    limits = np.iinfo(dtype)
    return torch.from_numpy(RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True))


@pytest.mark.parametrize('dtype', INTEGERS)
def test_a_type_is_scaled_by_its_range(dtype):
    image, limits = pixels(dtype), np.iinfo(dtype)
    scaled = (image.double() - limits.min) * 255 / (float(limits.max) - limits.min)
    found = ImagePreprocessor([120.0] * 3, [60.0] * 3)(dict(image=image))['image']
    torch.testing.assert_close(found.double(), (scaled - 120) / 60, atol=1e-5, rtol=0)


def test_uint8_is_left_as_it_is_to_the_last_bit():
    image = pixels('uint8')
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in ([123.675, 1.3, 2.7], [58.395, 3.1, 7.0]))
    preprocessor = ImagePreprocessor([123.675, 1.3, 2.7], [58.395, 3.1, 7.0])
    assert torch.equal(preprocessor(dict(image=image))['image'], (image.float() - mean) / std)


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('scale', [(-1, 7), ([-1, 0, 2], [7, 8, 4000])], ids=str)
def test_numbers_scale_every_type_and_pictures_undo_it(dtype, scale):
    image, preprocessor = pixels(dtype), ImagePreprocessor([120.0] * 3, [60.0] * 3, scale=scale)
    low, high = (torch.tensor(end, dtype=torch.float64).view(-1, 1, 1) for end in scale)
    scaled = (image.double() - low) * 255 / (high - low)
    found = preprocessor(dict(image=image))['image'].double()
    torch.testing.assert_close(found, (scaled - 120) / 60, atol=1e-4, rtol=1e-4)
    expected = scaled.float().round().clamp(0, 255)
    difference = preprocessor.denormalize(found.float()).float() - expected
    assert (difference[expected < 255].abs() <= 1).all()


@pytest.mark.parametrize(
    'scale', ['max', (0,), (3, 3), (5, 1), ([0, 0], [1, 1]), (0, float('nan')), (0, [1, 2, 0])]
)
def test_a_scale_that_is_none_is_refused_with_the_rules(scale):
    with pytest.raises(ValueError, match=r'scale=.*percentile'):
        check_scale(scale, 3)


def test_a_rule_without_numbers_says_where_they_come_from():
    preprocessor = ImagePreprocessor([1.0], [1.0], scale='percentile')
    with pytest.raises(ValueError, match=r'no numbers yet.*compute_stats'):
        preprocessor(dict(image=pixels('uint8', (1, 1, 4, 4))))


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_a_resize_keeps_the_type_and_rounds(dtype, interpolation):
    image = pixels(dtype, (3, 20, 30))
    found = resize(image, (11, 17), interpolation)
    assert found.dtype == image.dtype
    exact = torch.nn.functional.interpolate(
        image[None].double(), (11, 17), mode=interpolation, antialias=True
    )[0]
    if dtype in INTEGERS:
        exact = exact.clamp(np.iinfo(dtype).min, np.iinfo(dtype).max)
    # Of uint8, torch rounds between rows and columns too.
    atol = {'uint8': 3, 'float16': 0.02, 'float32': 1e-4}.get(dtype, 1)
    torch.testing.assert_close(found.double(), exact, atol=atol, rtol=0)


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('workers', [0, 2])
def test_a_batch_reaches_the_device_in_its_type(tmp_path, dtype, workers):
    for number in range(4):
        np.save(tmp_path / f'{number}.npy', pixels(dtype, (24, 30, 5)).numpy())
    pipeline = [
        dict(type='RandomResizedCrop', size=16),
        dict(type='RandomFlip'),
        dict(type='Resize', size=18),
        dict(type='CenterCrop', size=16),
    ]
    dataset = a2mim.datasets.MaskedImageDataset(
        source=dict(type='ImageFolder', root=str(tmp_path), channels=5),
        pipeline=pipeline,
        mask=dict(type='PatchMask', image_size=16, block_size=4),
    )
    loader = torch.utils.data.DataLoader(
        dataset, 2, num_workers=workers, collate_fn=channels_last_collate
    )
    for batch in loader:
        assert batch['image'].dtype == getattr(torch, dtype)
        assert batch['image'].is_contiguous(memory_format=torch.channels_last)
        found = ImagePreprocessor([1.0] * 5, [1.0] * 5, scale=(0, 255))(batch)['image']
        torch.testing.assert_close(found, batch['image'].float() - 1)


def test_uint8_and_uint16_go_together_and_other_types_do_not():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    deep = (levels.int() * 257).to(torch.uint16)
    batch = channels_last_collate([dict(image=levels), dict(image=deep)])
    scaled = ImagePreprocessor([0.0], [1.0])(batch)['image']
    assert torch.equal(scaled[0].round(), levels.float()) and torch.equal(scaled[0], scaled[1])
    with pytest.raises(ValueError, match=r'mixes images of torch\.int16 and torch\.uint8'):
        channels_last_collate([dict(image=levels), dict(image=levels.short())])


@pytest.mark.parametrize(
    'config',
    [
        dict(type='TimmAugment', policy='rand-m6-mstd0.5-inc1'),
        dict(type='TorchvisionTransform', name='ColorJitter', brightness=0.5),
        dict(type='TorchvisionTransform', name='RandomSolarize', threshold=128),
    ],
)
def test_photometric_transforms_refuse_other_types_in_one_line(config):
    with pytest.raises(ValueError, match=r'needs uint8 images, and these are uint16'):
        Pipeline([config])(pixels('uint16', (3, 16, 16)), np.random.default_rng(0))


def test_images_of_another_type_than_the_scale_are_refused_by_name(tmp_path):
    np.save(tmp_path / 'a.npy', pixels('uint16', (16, 16)).numpy())
    np.save(tmp_path / 'b.npy', pixels('uint8', (16, 16)).numpy())
    source = ImageFolder(str(tmp_path), channels=1, dtype='uint16')
    assert source.load(0).dtype == torch.uint16
    with pytest.raises(ValueError, match=r'b\.npy.*values are uint8, and those of the data set'):
        source.load(1)


def test_a_small_part_of_a_range_is_named_with_the_scale_to_set():
    assert range_warning('uint16', 0, 60000) is None
    assert range_warning('uint8', 10, 200) is None
    for dtype, low, high in (('uint16', 112, 2896), ('uint16', 0, 16383), ('int16', -1000, 2000)):
        text = range_warning(dtype, low, high)
        assert f'{dtype} and use {low} to {high}' in text and f'scale=({low}, {high})' in text


@pytest.mark.parametrize('tool', ['compute_stats', 'verify_dataset'])
def test_the_tools_name_range_types_and_missing_values(tmp_path, capsys, tool):
    for number in range(3):
        deep = RNG.integers(100, 4096, (30, 40)).astype(np.uint16)
        deep[:2] = 0
        tags = [(42113, 's', 0, '0', True)]
        tifffile.imwrite(tmp_path / f'{number}.tif', deep, extratags=tags)
    words = [str(tmp_path), '--channels', '1', '--workers', '0']
    load_tool(f'prepare_data/{tool}').main(words)
    text = capsys.readouterr().out
    assert 'uint16 (3), mostly 10' in text
    assert 'missing   240 values in 3' in text
    assert 'warning   the images are uint16 and use 10' in text and 'scale=(10' in text


def test_bad_images_are_left_out_of_a_measurement_unless_all_are_bad(tmp_path):
    np.save(tmp_path / 'a.npy', RNG.integers(0, 9, (8, 8), dtype=np.int16))
    (tmp_path / 'b.npy').write_bytes(b'')
    source = ImageFolder(str(tmp_path), channels=1)
    assert measure(source, skip_bad=True).unreadable == 1
    with pytest.raises(ValueError, match=r'b\.npy'):
        measure(source)
    (tmp_path / 'a.npy').write_bytes(b'')
    with pytest.raises(ValueError, match='is empty'):
        measure(source, skip_bad=True)


@pytest.mark.parametrize('dtype', TYPES)
def test_inference_takes_every_type_of_a_model_with_a_scale(tmp_path, dtype):
    config = copy.deepcopy(pretraining(1))
    config['model']['data_preprocessor']['scale'] = ([-2], [8])
    model = build(config)
    model.input_spec = InputSpec((64, 64))
    image = pixels(dtype, (64, 64)).numpy()
    scaled = (torch.from_numpy(image).double() + 2) * 25.5
    expected = ((scaled - 120) / 60).float()[None, None]
    np.save(tmp_path / 'a.npy', image)
    for given in (image, torch.from_numpy(image)[None], tmp_path / 'a.npy'):
        torch.testing.assert_close(as_batch(model, given), expected, rtol=1e-4, atol=1e-3)
    if dtype == 'float32':
        image[3, 3] = np.nan
        assert as_batch(model, image).isfinite().all()
        double = as_batch(model, image.astype(np.float64))
        torch.testing.assert_close(double, as_batch(model, image))


def test_inference_reads_the_bands_of_the_training(tmp_path):
    cube = RNG.integers(0, 256, (7, 64, 64), dtype=np.uint8)
    tifffile.imwrite(tmp_path / 'a.tif', cube, photometric='minisblack')
    model = build(pretraining(3))
    model.input_spec = InputSpec((64, 64), layout=dict(bands=[3, 2, 1]))
    expected = as_batch(model, torch.from_numpy(cube[[3, 2, 1]]))
    assert torch.equal(as_batch(model, tmp_path / 'a.tif'), expected)
