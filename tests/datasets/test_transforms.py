"""Crops, flips and resizes against Pillow and torchvision; borrowed augmentations."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from a2mim.datasets.transforms import Pipeline, resize
from a2mim.registry import TRANSFORMS


def build(kind: str, **options: object):
    return TRANSFORMS.build({'type': kind, **options})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(channels: int = 3, height: int = 75, width: int = 100) -> torch.Tensor:
    pixels = rng().integers(0, 256, (height, width, channels), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_crop_and_resize_are_those_of_pillow(interpolation):
    image = noise(height=375, width=500)
    crop = build('RandomResizedCrop', size=224, scale=(0.8, 1.0), interpolation=interpolation)
    method = Image.Resampling[interpolation.upper()]
    differences = []
    for seed in range(5):
        top, left, height, width = crop.box(375, 500, rng(seed))
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture = picture.crop((left, top, left + width, top + height)).resize((224, 224), method)
        ours = crop(image, rng(seed)).permute(1, 2, 0).numpy().astype(int)
        differences.append(np.abs(ours - np.asarray(picture)))
    assert np.mean(differences) <= 0.01
    assert np.max(differences) <= 1


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 6])
def test_channels_are_resized_independently(channels):
    image = noise(channels)
    together = resize(image, (32, 48), 'bilinear')
    apart = torch.cat([resize(image[[c]], (32, 48), 'bilinear') for c in range(channels)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize(('height', 'width'), [(75, 100), (200, 40), (30, 400), (1, 1)])
def test_crops_follow_the_distribution_of_torchvision(height, width):
    scale, ratio, count = (0.3, 1.0), (3 / 4, 4 / 3), 1500
    crop = build('RandomResizedCrop', size=8, scale=scale, ratio=ratio)
    generator = rng()
    ours = np.array([crop.box(height, width, generator) for _ in range(count)], dtype=float)
    blank = torch.zeros(1, height, width)
    theirs = np.array(
        [TorchvisionCrop.get_params(blank, scale, ratio) for _ in range(count)], dtype=float
    )
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    error = np.sqrt((ours.var(0) + theirs.var(0)) / count)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) <= 4.5 * error + 1e-9).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.12, atol=0.05)


@pytest.mark.parametrize('scale', [(0.8, 1.0), (0.08, 1.0), (0.2, 0.7)])
def test_the_draws_of_a_crop_are_uniform_and_log_uniform_in_this_order(scale):
    crop = build('RandomResizedCrop', size=224, scale=scale)
    for seed in range(300):
        draws = rng(seed)
        area = 375 * 500 * draws.uniform(*scale)
        ratio = math.exp(draws.uniform(math.log(3 / 4), math.log(4 / 3)))
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if rows <= 375 and columns <= 500:
            place = int(draws.random() * (376 - rows)), int(draws.random() * (501 - columns))
            assert crop.box(375, 500, rng(seed)) == (*place, rows, columns)


def test_the_same_draws_crop_the_same_part_of_a_smaller_picture():
    crop = build('RandomResizedCrop', size=8, scale=(0.8, 1.0))
    for seed in range(20):
        full = np.array(crop.box(1128, 1504, rng(seed)))
        quarter = np.array(crop.box(282, 376, rng(seed)))
        assert np.abs(full / 4 - quarter).max() <= 1


def test_a_crop_can_be_a_rectangle():
    assert build('RandomResizedCrop', size=(32, 64))(noise(), rng()).shape == (3, 32, 64)


def test_a_crop_leaves_its_input_alone():
    image = noise()
    before = image.clone()
    build('RandomResizedCrop', size=32)(image, rng())
    assert torch.equal(image, before)


def test_flips_mirror_a_share_of_the_images():
    image, generator = noise(5), rng()
    flip = build('RandomFlip', p=0.25)
    results = [flip(image, generator) for _ in range(400)]
    flipped = sum(torch.equal(result, image.flip(2)) for result in results)
    assert all(torch.equal(r, image) or torch.equal(r, image.flip(2)) for r in results)
    assert 60 < flipped < 140


def test_resize_brings_the_short_side_to_a_length():
    assert build('Resize', size=30)(noise(height=75, width=100), rng()).shape == (3, 30, 40)
    assert build('Resize', size=30)(noise(height=100, width=75), rng()).shape == (3, 40, 30)


def test_resize_brings_an_image_to_a_shape():
    assert build('Resize', size=(20, 50))(noise(), rng()).shape == (3, 20, 50)


def test_evaluation_resize_is_bicubic_pillow():
    picture = Image.fromarray(noise().permute(1, 2, 0).numpy()).resize((40, 30), Image.BICUBIC)
    ours = build('Resize', size=30)(noise(), rng()).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - np.asarray(picture)).max() <= 1


def test_center_crop_cuts_out_the_centre():
    image = noise(height=75, width=100)
    assert torch.equal(build('CenterCrop', size=(75, 50))(image, rng()), image[:, :, 25:75])


def test_center_crop_refuses_a_smaller_image():
    with pytest.raises(ValueError, match='cannot cut 80×80 pixels out of an image of 75×100'):
        build('CenterCrop', size=80)(noise(), rng())


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('RandomResizedCrop', {'size': 0}, 'size=0'),
        ('RandomResizedCrop', {'size': 8, 'scale': (1.0, 0.5)}, r'scale=\(1.0, 0.5\)'),
        ('RandomResizedCrop', {'size': 8, 'ratio': (0, 1)}, r'ratio=\(0, 1\)'),
        ('RandomResizedCrop', {'size': 8, 'interpolation': 'cubic'}, "'cubic' must be one of"),
        ('RandomFlip', {'p': 1.5}, 'p=1.5'),
        ('Resize', {'size': (0, 5)}, r'size=\(0, 5\)'),
        ('PatchMask', {'image_size': 224, 'block_size': 30}, 'block_size=30 does not divide'),
        ('PatchMask', {'image_size': 224, 'ratio': 60}, 'mask ratio=60'),
        ('TimmAugment', {'policy': 'auto-m9'}, "policy='auto-m9'"),
        ('TimmAugment', {'policy': 'rand-q9'}, "policy='rand-q9'"),
        ('TorchvisionTransform', {'name': 'ColourJitter'}, 'ColorJitter'),
    ],
)
def test_wrong_options_are_refused_when_the_config_is_built(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


BORROWED = [
    {'type': 'TimmAugment', 'policy': 'rand-m9-n3-mstd0.5-inc1'},
    {'type': 'TorchvisionTransform', 'name': 'ColorJitter', 'brightness': 0.4, 'hue': 0.1},
]


@pytest.mark.parametrize('config', BORROWED, ids=lambda config: config['type'])
def test_borrowed_randomness_is_a_function_of_the_key_alone(config):
    transform = TRANSFORMS.build(config)
    results = []
    for state in (1, 2):
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
        results.append([transform(noise(), rng(seed)) for seed in range(4)])
    assert all(map(torch.equal, *results))
    assert not all(torch.equal(results[0][0], other) for other in results[0][1:])


@pytest.mark.parametrize('config', BORROWED, ids=lambda config: config['type'])
def test_borrowed_transforms_leave_the_global_generators_alone(config):
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(()).item()

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    TRANSFORMS.build(config)(noise(), rng())
    assert draw() == expected


def test_timm_augment_refuses_other_than_rgb():
    with pytest.raises(ValueError, match='needs RGB images, got 6 channels'):
        build('TimmAugment', policy='rand-m6-mstd0.5-inc1')(noise(6), rng())


def test_a_pipeline_applies_its_transforms_in_order():
    pipeline = Pipeline([{'type': 'Resize', 'size': 40}, {'type': 'CenterCrop', 'size': 32}])
    assert pipeline(noise(), rng()).shape == (3, 32, 32)


def test_a_block_mask_covers_a_rectangle():
    options = dict(image_size=(64, 96), block_size=(16, 32), ratio=0.5)
    mask = build('PatchMask', **options)(rng())
    assert torch.equal(mask, build('BlockMask', **options)(rng()))  # the earlier name
    assert mask.shape == (4, 3)
    assert mask.dtype == torch.uint8
    assert mask.sum() == 6
