"""What is chosen for a folder: channels, scale, the mask of a network; and the text of a config."""

from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

from a2mim.own_data.config_text import config_text, source_of
from a2mim.own_data.images import look, side_for
from a2mim.own_data.network import choose_network, choose_patches, power_of_two
from a2mim.own_data.options import default_out
from a2mim.own_data.pretrain import parser
from toy_run import write_images


def write(folder, images, suffix):
    for index, image in enumerate(images):
        path = folder / f'{index}.{suffix}'
        np.save(path, image) if suffix == 'npy' else Image.fromarray(image).save(path)
    return str(folder)


def noise(shape, high, dtype, number=6):
    rng = np.random.default_rng(number)
    return [rng.integers(0, high, shape).astype(dtype) for _ in range(number)]


@pytest.mark.parametrize(
    ('shape', 'high', 'dtype', 'suffix', 'channels', 'scale'),
    [
        ((40, 50, 3), 256, 'uint8', 'png', 3, 'dtype'),
        ((40, 50), 256, 'uint8', 'png', 1, 'dtype'),
        ((40, 50), 4096, 'uint16', 'png', 1, 'percentile'),
        ((40, 50), 65536, 'uint16', 'png', 1, 'dtype'),
        ((40, 50, 5), 256, 'uint8', 'npy', 5, 'dtype'),
        ((2, 40, 50), 900, 'float32', 'npy', 2, 'percentile'),
    ],
)
def test_channels_and_scale_are_those_of_the_files(
    tmp_path, shape, high, dtype, suffix, channels, scale
):
    images = look(write(tmp_path, noise(shape, high, dtype), suffix), None, None)
    assert images.channels == len(images.mean) == len(images.std) == channels
    assert images.stats.sizes[0] == (40, 50)
    assert (images.scale == 'dtype') == (scale == 'dtype')
    if scale != 'dtype':
        low, high_ = images.scale
        assert 0 <= np.mean(low) < 0.02 * high and 0.98 * high < np.mean(high_) + 1 <= high + 1
        assert images.source()['dtype'] == dtype
        assert images.preprocessor()['scale'] == images.scale
    # Uniform values: the mean of 0 and 255, and 255 by the root of 12.
    assert np.allclose(images.mean, 127.5, atol=4) and np.allclose(images.std, 73.6, atol=3)


def test_what_the_user_states_is_taken_and_unreadable_files_are_counted(tmp_path):
    folder = write(tmp_path, noise((60, 90), 4096, 'uint16', 9), 'png')
    (tmp_path / '3.png').write_bytes(b'\x89PNG')
    images = look(folder, 1, [0.0, 4095.0])
    assert images.scale == [0.0, 4095.0] and images.stats.unreadable == 1
    assert images.number == 9 and '1 unreadable' in images.found()
    assert images.why == {'channels': '--channels', 'scale': '--scale'}
    assert side_for(images)[0] == 64


@pytest.mark.parametrize(
    ('name', 'size', 'options', 'layer', 'stride', 'block'),
    [
        ('resnet18', 224, {}, 'layer3', 16, 32),
        ('resnet18', 96, {}, 'layer3', 16, 16),
        ('resnet18', 64, {'output_stride': 8}, 'layer3', 8, 8),
        ('convnext_atto', 96, {}, 'stages.2', 16, 16),
        ('convnext_atto', 160, {}, 'stages.2', 16, 32),
        ('vit_tiny_patch16_224', 224, {}, 'patch_embed', 16, 32),
        ('vit_tiny_patch16_224', 32, {'img_size': 32, 'patch_size': 8}, 'patch_embed', 8, 8),
    ],
)
def test_mask_and_options_follow_from_network_and_size(name, size, options, layer, stride, block):
    choice = choose_network(name, size, 3)
    assert choice.backbone == {'model_name': name, **options}
    assert (choice.mask_after, choice.stride, choice.block) == (layer, stride, block)
    assert choice.blocks * block == size


@pytest.mark.parametrize(
    ('name', 'size', 'options', 'block', 'masked'),
    [
        ('vit_tiny_patch16_224', 224, {}, 16, 147),
        ('vit_tiny_patch16_224', 272, {'img_size': 272}, 16, 217),  # 17×17, a prime number
        ('beit_base_patch16_224', 64, {'img_size': 64, 'patch_size': 8}, 8, 48),
        ('eva02_tiny_patch14_224', 32, {'img_size': 32, 'patch_size': 4}, 4, 48),
    ],
)
def test_mae_masks_single_patches_and_makes_enough_of_them(name, size, options, block, masked):
    choice = choose_patches(name, size, 3)
    assert choice.backbone == {'model_name': name, **options} and choice.mask_after is None
    assert (choice.block, choice.blocks * block, choice.masked) == (block, size, masked)


def test_a_size_without_a_mask_is_refused_with_sizes_that_fit():
    with pytest.raises(ValueError, match=r'--size 100: resnet18 .*sizes that fit: 96, 128'):
        choose_network('resnet18', 100, 3)


def test_an_unknown_network_is_told_near_names():
    with pytest.raises(ValueError, match='convnext_atto'):
        choose_network('convnext_ato', 96, 3)


@pytest.mark.parametrize(('limit', 'power'), [(0.5, 1), (1, 1), (5, 4), (64, 64), (127.9, 64)])
def test_batches_are_powers_of_two(limit, power):
    assert power_of_two(limit) == power


VALUES = [
    dict(a=1, b=[1.5, None, True], c=dict(d='x' * 90, e=())),
    dict(rules={'(a|b)[.]': dict(x=0.0), 'long' * 30: dict(y=1)}),
    [dict(type='A'), dict(type='B' * 100)],
    'a "b" \\ c\n\'d\'',
]


@pytest.mark.parametrize('value', VALUES)
def test_a_value_is_written_as_python_that_gives_it(value):
    text = source_of(value)
    assert eval(text) == value
    # Beside text that cannot be broken.
    assert all(
        len(line) <= 100 or 'x' * 90 in line or 'B' * 90 in line or 'longlong' in line
        for line in text.splitlines()
    )


@pytest.mark.parametrize('folder', ['plain', 'two words', 'a"""b\\n', "c'd", 'ä{x}%s'])
def test_a_config_is_read_back_whatever_the_folder_is_called(tmp_path, folder):
    path = tmp_path / 'config.py'
    sections = [([f'images: {folder}'], 'data', dict(root=folder)), ((), 'n', 3)]
    path.write_text(config_text(f'In {folder}', f'a2mim pretrain {folder}', path, sections))
    assert Config.fromfile(path).to_dict() == dict(data=dict(root=folder), n=3)


def test_a_run_in_the_folder_of_its_images_goes_beside_them(tmp_path, monkeypatch):
    images = tmp_path / 'photos'
    (images / 'deep').mkdir(parents=True)
    for here, out in (
        (tmp_path, Path('work_dirs/p')),
        (images / 'deep', tmp_path / 'work_dirs/p'),
    ):
        monkeypatch.chdir(here)
        assert default_out(images, 'p') == out


def test_a_default_of_zero_is_shown():
    assert 'of every random draw (default: 0)' in ' '.join(parser().format_help().split())


def test_the_side_follows_from_the_images(tmp_path):
    write_images(tmp_path, 2)
    assert side_for(look(str(tmp_path), None, None))[0] == 32
