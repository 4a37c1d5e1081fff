"""The formulas against the vectors that came with the pinned numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

import formulas

VECTORS = json.loads((Path(__file__).parent / 'data' / 'formula_vectors.json').read_text())


@pytest.mark.parametrize('case', VECTORS['u'])
def test_hash_gives_the_recorded_numbers(case):
    seed, name_and_count = case.split('/', 1)
    name, count = name_and_count.rsplit('/', 1)
    np.testing.assert_array_equal(formulas.u(name, int(count), int(seed)), VECTORS['u'][case])


@pytest.mark.parametrize('case', VECTORS['fill'])
def test_weights_have_the_recorded_values(case):
    key, shape = case.rstrip(']').split('[')
    shape = tuple(int(size) for size in shape.split(','))
    filled = formulas.fill(key, shape, seed=1)
    assert filled.dtype == np.float32
    assert filled.shape == shape
    np.testing.assert_array_equal(filled.ravel()[:4], np.float32(VECTORS['fill'][case]))


def test_image_has_the_recorded_pixels():
    (expected,) = VECTORS['image'].values()
    image = formulas.image('backbone/img', (2, 3, 64, 64), seed=1000)
    np.testing.assert_array_equal(image.flatten()[:4].numpy(), np.float32(expected))


def test_mask_covers_the_recorded_blocks():
    (expected,) = VECTORS['mask'].values()
    mask = formulas.block_mask('backbone/mask', (2, 4, 4), ratio=0.6, seed=1000)
    assert mask.tolist() == expected


@pytest.mark.parametrize(('n', 'k'), [(8192, 8), (100, 64)])
def test_sample_positions_are_the_recorded_ones(n, k):
    expected = next(v for key, v in VECTORS['sample_index'].items() if f'n={n},k={k}' in key)
    index = formulas.sample_index(n, k)
    assert len(index) == k
    assert index[: len(expected)].tolist() == expected


def test_more_samples_than_numbers_takes_each_number_once():
    assert formulas.sample_index(5, 64).tolist() == [0, 1, 2, 3, 4]
