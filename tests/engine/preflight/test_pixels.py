"""A run says what its images are, and what scale to set where they use little of their range."""

import logging

import numpy as np
import pytest

from a2mim.engine import preflight
from toy_run import write_images


def rewrite(root, dtype, top):
    for number, path in enumerate(sorted(root.rglob('*.png'))):
        image = np.random.default_rng(number).integers(0, top, (32, 32, 3)).astype(dtype)
        np.save(path.with_suffix('.npy'), image)
        path.unlink()


@pytest.fixture
def own_images(tmp_path):
    for part in ('train', 'val'):
        write_images(tmp_path / 'own' / part, 2)
    return tmp_path / 'own'


@pytest.mark.parametrize(('dtype', 'top'), [('uint16', 4096), ('uint16', 200), ('int16', 3000)])
def test_a_small_part_of_the_range_is_a_warning_with_the_scale(
    own_images, build_runner, caplog, dtype, top
):
    rewrite(own_images, dtype, top)
    runner = build_runner(train_dataloader__dataset__source__root=str(own_images / 'train'))
    runner.logger.addHandler(caplog.handler)
    line = preflight.check_pixels(runner)
    assert line.startswith(f'pixels: {dtype}, mostly ')
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1 and 'scale=(' in warned[0].getMessage()


def test_8_bit_images_that_use_their_range_are_no_warning(build_runner, caplog):
    runner = build_runner()
    runner.logger.addHandler(caplog.handler)
    assert preflight.check_pixels(runner).startswith('pixels: uint8, mostly ')
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_float_images_need_a_scale(own_images, build_runner):
    rewrite(own_images, 'float32', 2)
    root = str(own_images / 'train')
    with pytest.raises(ValueError, match=r'float32, which has no range of its own.*percentile'):
        preflight.check_pixels(build_runner(train_dataloader__dataset__source__root=root))
