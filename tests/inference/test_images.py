"""Paths, arrays and tensors of any size and colour become the batch that the model wants."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from a2mim.inference import as_batch
from a2mim.weights.load_model import InputSpec
from small_models import build, pretraining

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def model(channels=3, size=(64, 64)):
    loaded = build(pretraining(channels))
    loaded.input_spec = InputSpec(size)
    return loaded


@pytest.fixture
def rgb():
    return model()


def test_an_image_of_the_right_size_is_only_normalised(rgb):
    expected = (torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float() - 120) / 60
    torch.testing.assert_close(as_batch(rgb, PIXELS), expected)


def test_path_array_and_tensor_give_the_same(rgb, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    expected = as_batch(rgb, PIXELS)
    for image in (tmp_path / 'a.png', str(tmp_path / 'a.png'), tensor, tensor[None], PIXELS[None]):
        assert torch.equal(as_batch(rgb, image), expected)


def test_pillow_images_lists_and_folders_are_batches(rgb, tmp_path):
    kinds = [PIXELS, PIXELS[..., 0], (PIXELS[..., 0].astype(np.uint16) * 257)]
    modes = [Image.fromarray(kind) for kind in kinds]
    modes += [modes[0].convert('RGBA'), modes[0].convert('CMYK'), modes[1].convert('1')]
    for i, picture in enumerate(modes):
        picture.save(tmp_path / f'{i}.tif')
    paths = sorted(tmp_path.iterdir())
    expected = torch.cat([as_batch(rgb, path) for path in paths])
    assert expected.shape == (6, 3, 64, 64)
    for images in (tmp_path, str(tmp_path), paths, tuple(modes), [Image.open(p) for p in paths]):
        assert torch.equal(as_batch(rgb, images), expected)
    assert torch.equal(as_batch(rgb, (path for path in paths)), expected)
    assert torch.equal(as_batch(rgb, dict.fromkeys(paths)), expected)
    mixed = as_batch(rgb, [paths[0], modes[1], kinds[2], torch.tensor(PIXELS).permute(2, 0, 1)])
    assert torch.equal(mixed, expected[[0, 1, 2, 0]])


def test_a_turned_photograph_is_upright(rgb, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PIXELS).save(tmp_path / 'a.png', exif=exif)
    turned = as_batch(rgb, Image.open(tmp_path / 'a.png'))
    assert torch.equal(turned, as_batch(rgb, tmp_path / 'a.png'))
    assert torch.equal(turned, as_batch(rgb, np.rot90(PIXELS, -1)))


@pytest.mark.parametrize('size', [(64, 64), (64, 96), (96, 32)])
@pytest.mark.parametrize('shape', [(200, 100), (100, 200), (40, 50), (64, 97)])
def test_the_centre_is_cut_out_as_pillow_does_it(size, shape):
    image = np.kron(RNG.integers(0, 256, (4, 4, 3)), np.ones((50, 50, 1))).astype(np.uint8)
    picture = Image.fromarray(image).resize(shape[::-1])
    scale = max(size[0] / shape[0], size[1] / shape[1])
    target = [round(side * scale) for side in shape]
    resized = picture.resize(target[::-1], Image.Resampling.BICUBIC)
    top, left = round((target[0] - size[0]) / 2), round((target[1] - size[1]) / 2)
    cut = pil_to_tensor(resized)[:, top : top + size[0], left : left + size[1]]
    found = as_batch(model(size=size), np.asarray(picture))[0] * 60 + 120
    assert found.shape == (3, *size)
    assert (found - cut).abs().max() <= 1.001  # a grey level


def test_grey_becomes_rgb_for_a_model_of_colour(rgb):
    grey = PIXELS[..., 0]
    expected = as_batch(rgb, grey[..., None].repeat(3, axis=2))
    assert torch.equal(as_batch(rgb, grey), expected)
    for image in (torch.from_numpy(grey)[None], torch.from_numpy(grey), grey[None, ..., None]):
        assert torch.equal(as_batch(rgb, image), expected)


def test_rgb_becomes_grey_for_a_model_of_grey(tmp_path):
    grey = model(channels=1)
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    from_array, from_path = as_batch(grey, PIXELS), as_batch(grey, tmp_path / 'a.png')
    assert from_array.shape == (1, 1, 64, 64)
    assert (from_array - from_path).abs().max() <= 1.01 / 60


def test_other_numbers_of_channels_pass_where_they_agree(rgb, tmp_path):
    bands = RNG.integers(0, 256, (64, 64, 5), dtype=np.uint8)
    np.save(tmp_path / 'a.npy', bands)
    five = model(channels=5)
    assert torch.equal(as_batch(five, bands), as_batch(five, tmp_path / 'a.npy'))
    with pytest.raises(ValueError, match='has 5 channels, the model was trained on 3'):
        as_batch(rgb, bands)
    with pytest.raises(ValueError, match='has 3 channels, the model was trained on 5'):
        as_batch(five, PIXELS)


@pytest.mark.parametrize(
    'image, error, words',
    [
        ('none.png', FileNotFoundError, 'there is no image none.png'),
        (PIXELS / 255, TypeError, r'holds float64; .*as uint8.*round'),
        (torch.zeros(3, 8, 8), TypeError, r'holds float32'),
        (
            np.zeros((1, 2, 8, 8, 3), np.uint8),
            ValueError,
            r'array of shape \(1, 2, 8, 8, 3\) is no',
        ),
        (torch.zeros(8, dtype=torch.uint8), ValueError, r'tensor of shape \(8,\) is no'),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r'array of shape \(0, 8, 3\) is no'),
        (PIXELS.transpose(2, 0, 1), ValueError, r'64 channels.*an array is read as \(H, W, C\)'),
        (b'a.png', TypeError, r'image is a bytes; give a path'),
        (iter([]), ValueError, r'there is no image in <list_iterator'),
        (object(), TypeError, r'image is a object; give a path, a Pillow image, an array'),
        ([], ValueError, r'there is no image in \[\]'),
        ([PIXELS, 'none.png'], FileNotFoundError, 'there is no image none.png'),
    ],
    ids=[
        'missing',
        'float array',
        'float tensor',
        'five axes',
        'one axis',
        'no pixels',
        'channels first',
        'bytes',
        'nothing',
        'object',
        'none',
        'one',
    ],
)
def test_what_is_no_image_is_named(rgb, image, error, words):
    with pytest.raises(error, match=words):
        as_batch(rgb, image)


def test_a_model_from_elsewhere_is_refused():
    with pytest.raises(TypeError, match='Linear does not say what images it wants'):
        as_batch(torch.nn.Linear(1, 1), PIXELS)
