"""Pixel statistics equal those of all pixels concatenated."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from a2mim.datasets import ImageFolder
from a2mim.scale import measure
from toy_run import load_tool

stats = load_tool('prepare_data/compute_stats')
SIZES = ((5, 7), (16, 9), (30, 40), (3, 4))


def images(channels: int) -> list[np.ndarray]:
    """Arrays (H, W, C) of several sizes, each channel with its own range."""
    rng = np.random.default_rng(channels)
    tops = np.linspace(256, 60, channels).astype(int)
    return [rng.integers(0, tops, (*size, channels), dtype=np.uint8) for size in SIZES]


def write(folder: Path, arrays: list[np.ndarray], suffix: str) -> None:
    folder.mkdir()
    for index, array in enumerate(arrays):
        path = folder / f'{index}{suffix}'
        if suffix == '.npy':
            np.save(path, array)
        elif suffix == '.tif':
            tifffile.imwrite(path, array, photometric='minisblack', planarconfig='contig')
        else:
            Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array).save(path)


def printed(text: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the line for a command."""
    line = text.splitlines()[-1]
    assert line.startswith('--cfg-options ')
    found = re.fullmatch(r".* '\S*[.]mean=\[(\S+)\]' '\S*[.]std=\[(\S+)\]'", line)
    mean, std = ([float(value) for value in group.split(',')] for group in found.groups())
    return mean, std


@pytest.mark.parametrize(
    'channels, suffix', [(3, '.png'), (1, '.png'), (5, '.tif'), (5, '.npy'), (3, '.npy')]
)
def test_statistics_are_those_of_all_pixels_together(tmp_path, capsys, channels, suffix):
    arrays = images(channels)
    write(tmp_path / 'data', arrays, suffix)
    stats.main([str(tmp_path / 'data'), '--channels', str(channels), '--workers', '0'])
    pixels = np.concatenate([array.reshape(-1, channels) for array in arrays])
    mean, std = printed(capsys.readouterr().out)
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=0, atol=0.00501)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=0, atol=0.00501)


def test_statistics_are_exact_before_rounding(tmp_path):
    arrays = images(3)
    write(tmp_path / 'data', arrays, '.png')
    mean, std = measure(ImageFolder(str(tmp_path / 'data'))).mean_and_std('dtype')
    pixels = np.concatenate([array.reshape(-1, 3) for array in arrays]).astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-13)


def test_statistics_do_not_depend_on_the_number_of_workers(tmp_path):
    write(tmp_path / 'data', images(3), '.png')
    source = ImageFolder(str(tmp_path / 'data'))
    alone, shared = measure(source), measure(source, workers=2)
    for rule in ('dtype', 'minmax', 'percentile'):
        assert alone.resolve(rule) == shared.resolve(rule)
        np.testing.assert_array_equal(alone.mean_and_std(rule), shared.mean_and_std(rule))


@pytest.mark.parametrize('dtype', ['uint16', 'int16', 'float32'])
@pytest.mark.parametrize('scale', ['dtype', 'minmax', 'percentile', '-200,1000'])
def test_other_types_give_the_statistics_of_the_scaled_values(tmp_path, capsys, dtype, scale):
    rng = np.random.default_rng(0)
    low = 0 if dtype == 'uint16' else -500
    arrays = [rng.integers(low, 3000, (*size, 2)).astype(dtype) for size in SIZES]
    write(tmp_path / 'data', arrays, '.npy')
    words = [str(tmp_path / 'data'), '--channels', '2', '--workers', '0', f'--scale={scale}']
    if (dtype, scale) == ('float32', 'dtype'):
        with pytest.raises(ValueError, match='float32, which has no range of its own'):
            stats.main(words)
        return
    stats.main(words)
    text = capsys.readouterr().out
    pixels = np.concatenate([array.reshape(-1, 2) for array in arrays]).astype(np.float64)
    ends = {
        'dtype': lambda: [[x] * 2 for x in (np.iinfo(dtype).min, np.iinfo(dtype).max)],
        'minmax': lambda: [pixels.min(axis=0), pixels.max(axis=0)],
        'percentile': lambda: np.percentile(pixels, (0.1, 99.9), axis=0),
        '-200,1000': lambda: [[-200] * 2, [1000] * 2],
    }[scale]()
    scaled = (pixels - ends[0]) * 255 / (np.array(ends[1]) - ends[0])
    last = text.splitlines()[-1]
    found = dict(re.findall(r"preprocessor\.(\w+)=(\S+)'", last))
    np.testing.assert_allclose(ast.literal_eval(found['mean']), scaled.mean(axis=0), atol=0.0051)
    np.testing.assert_allclose(ast.literal_eval(found['std']), scaled.std(axis=0), atol=0.0051)
    assert (scale == 'dtype') == ('warning' in text) == ('scale' not in found)
    if 'scale' in found:
        printed = [np.broadcast_to(end, 2) for end in ast.literal_eval(found['scale'])]
        np.testing.assert_allclose(printed, ends, rtol=1e-6)


def test_number_and_sizes_of_images_are_printed(tmp_path, capsys):
    write(tmp_path / 'data', images(3), '.png')
    stats.main([str(tmp_path / 'data'), '--workers', '0'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'images    4 of 4'
    assert [line.split()[:2] for line in lines[1:4]] == [
        ['smallest', '3×4'],
        ['median', '16×9'],
        ['largest', '30×40'],
    ]


def test_a_sample_is_spread_over_the_folder(tmp_path, capsys):
    arrays = images(3)
    write(tmp_path / 'data', arrays, '.png')
    stats.main([str(tmp_path / 'data'), '--workers', '0', '--max-images', '2'])
    text = capsys.readouterr().out
    assert 'images    2 of 4' in text
    pixels = np.concatenate([array.reshape(-1, 3) for array in (arrays[0], arrays[-1])])
    np.testing.assert_allclose(printed(text)[0], pixels.mean(axis=0), atol=0.00501)


def test_a_list_names_the_images(tmp_path, capsys):
    arrays = images(3)
    write(tmp_path / 'data', arrays, '.png')
    listed = tmp_path / 'list.txt'
    listed.write_text('1.png 0\n2.png 1\n')
    stats.main([str(tmp_path / 'data'), '--workers', '0', '--list-file', str(listed)])
    pixels = np.concatenate([array.reshape(-1, 3) for array in arrays[1:3]])
    np.testing.assert_allclose(printed(capsys.readouterr().out)[1], pixels.std(0), atol=0.00501)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys, workers):
    write(tmp_path / 'data', images(3), '.png')
    (tmp_path / 'data' / '2.png').write_bytes(b'no image')
    with pytest.raises(SystemExit), stats.one_line_errors():
        stats.main([str(tmp_path / 'data'), '--workers', str(workers)])
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith('error: '))
    assert '2.png' in line


def test_a_channel_without_contrast_is_refused(tmp_path):
    array = np.full((4, 4, 2), 7, np.uint8)
    array[0, :, 0] = 9
    write(tmp_path / 'data', [array], '.npy')
    with pytest.raises(ValueError, match='channel 1 is 7 in every pixel'):
        stats.main([str(tmp_path / 'data'), '--channels', '2', '--workers', '0'])


def test_no_image_at_all_is_refused(tmp_path):
    write(tmp_path / 'data', images(3), '.png')
    with pytest.raises(ValueError, match='--max-images 0'):
        stats.main([str(tmp_path / 'data'), '--workers', '0', '--max-images', '0'])
