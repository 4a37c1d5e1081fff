import numpy as np
import pytest

from a2mim.engine.pictures import CAPTION, GAP, picture_grid


@pytest.mark.parametrize('size, shown', [((96, 128), (96, 128)), ((32, 32), (96, 96))])
def test_small_images_are_enlarged_by_whole_factors(size, shown):
    grid = picture_grid({'a': np.zeros((2, 3, *size), np.uint8)})
    assert grid.shape == (CAPTION + shown[0] + GAP, 2 * (shown[1] + GAP), 3)


@pytest.mark.parametrize('channels, colour', [(1, [0, 0, 0]), (2, [0, 0, 0]), (4, [0, 1, 2])])
def test_channels_become_colours(channels, colour):
    image = np.arange(channels, dtype=np.uint8).reshape(1, channels, 1, 1)
    grid = picture_grid({'a': image.repeat(96, axis=2).repeat(96, axis=3)})
    assert grid[CAPTION + 50, 50].tolist() == colour


def test_every_row_has_its_caption():
    images = np.full((3, 3, 96, 96), 255, np.uint8)
    grid = picture_grid({'one': images, 'two': images})
    rows = np.split(grid, 2)
    assert all((row[:CAPTION] < 128).any() for row in rows)
    assert all((row[CAPTION:] == 255).all() for row in rows)
