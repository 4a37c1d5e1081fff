"""Masks: numbers of the reference implementation (OpenMixup), and properties."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from a2mim.masking import (
    block_grid,
    fill_masked,
    num_masked_patches,
    random_patch_mask,
    upsample_mask,
)
from formulas import image

DATA = Path(__file__).parent / 'data'
PUBLISHED = json.loads((DATA / 'masks.json').read_text())
ARRAYS = np.load(DATA / 'masks.npz')
CASES = [
    pytest.param(number, case, id=f'case{number}') for number, case in enumerate(PUBLISHED['cases'])
]


def draws(grid: tuple[int, int], count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.stack([random_patch_mask(grid, 0.6, generator) for _ in range(count)])


@pytest.mark.parametrize(('size', 'block', 'count'), [(224, 32, 30), (192, 32, 22), (64, 32, 3)])
def test_the_published_settings_mask_the_published_number_of_blocks(size, block, count):
    mask = random_patch_mask(block_grid(size, block), 0.6, np.random.default_rng(0))
    assert mask.sum() == count
    assert mask.dtype == np.uint8


@pytest.mark.parametrize('edge', PUBLISHED['mask_count_edges'], ids=str)
def test_the_number_of_masked_blocks_is_rounded_up_as_published(edge):
    grid = block_grid(edge['input_size'], edge['mask_patch_size'])
    assert num_masked_patches(grid, edge['mask_ratio']) == edge['mask_count']


def test_every_mask_covers_the_same_number_of_blocks():
    assert set(draws((7, 7), 200).sum(axis=(1, 2))) == {30}


@pytest.mark.parametrize(('number', 'case'), CASES)
def test_every_position_is_masked_as_often_as_in_the_reference(number, case):
    count, share = 2000, case['expected_position_frequency']
    side = case['block_grid']
    frequency = draws((side, side), count).mean(axis=0)
    five_sigma = 5 * (share * (1 - share) / count) ** 0.5
    assert np.abs(frequency - share).max() < five_sigma


def test_masks_do_not_repeat():
    assert len(np.unique(draws((7, 7), 2000), axis=0)) == 2000


def test_the_same_generator_state_gives_the_same_mask():
    first, second = (random_patch_mask((7, 7), 0.6, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_blocks_tile_rectangles():
    assert block_grid((96, 160), (32, 16)) == (3, 10)
    assert random_patch_mask((3, 10), 0.5, np.random.default_rng(0)).shape == (3, 10)


def test_a_block_size_that_does_not_divide_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r'block_size=30 does not divide image_size=224.*32'):
        block_grid(224, 30)


@pytest.mark.parametrize('ratio', [-0.1, 1.1])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match=f'mask ratio={ratio}'):
        num_masked_patches((7, 7), ratio)


@pytest.mark.parametrize(('number', 'case'), CASES)
def test_upsampling_reproduces_the_published_masks_from_their_blocks(number, case):
    published = torch.from_numpy(ARRAYS[f'masks/{number}'])
    step = published.shape[-1] // case['block_grid']
    blocks = published[:, ::step, ::step]
    assert (blocks.sum((1, 2)) == case['mask_count']).all()
    assert torch.equal(upsample_mask(blocks, tuple(published.shape[-2:])), published)


def test_upsampling_to_the_grid_itself_changes_nothing():
    mask = torch.tensor([[[1, 0], [0, 1]]], dtype=torch.uint8)
    assert upsample_mask(mask, (2, 2)) is mask


def test_upsampling_to_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='7×7 blocks does not divide a grid of 6×6'):
        upsample_mask(torch.zeros(1, 7, 7), (6, 6))


@pytest.mark.parametrize(('channels', 'name'), [(3, 'maskfill/img'), (1, 'maskfill/img1')])
def test_masked_pixels_get_the_published_mean_colour_and_visible_ones_stay(channels, name):
    pixels = image(name, (1, channels, 64, 64), 31)
    mask = torch.from_numpy(ARRAYS[f'fill/{channels}/mask'])[None].float()
    colour = torch.from_numpy(ARRAYS[f'fill/{channels}/colour'])
    before = pixels.clone()
    filled = fill_masked(pixels, mask)
    hidden = upsample_mask(mask, (64, 64))[0].bool()
    torch.testing.assert_close(filled[0][:, hidden].mean(1), colour, rtol=0, atol=1e-8)
    assert torch.equal(filled[0][:, hidden].amax(1), filled[0][:, hidden].amin(1))
    assert torch.equal(filled[0][:, ~hidden], before[0][:, ~hidden])
    assert torch.equal(pixels, before)


def test_filling_gives_the_published_sums():
    # 64 px in blocks of 32, blocks 1 to 3 masked; float64 numbers of the reference implementation.
    pixels = torch.sin(0.01 * torch.arange(3 * 64 * 64, dtype=torch.float64)).view(1, 3, 64, 64)
    mask = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    filled = fill_masked(pixels, mask)
    expected = torch.tensor([0.048668730043799874, -0.0480059819226072, 0.046660850498272025])
    torch.testing.assert_close(pixels.mean((2, 3))[0], expected.double(), rtol=0, atol=1e-8)
    assert pixels.sum().item() == pytest.approx(193.8374599453, abs=1e-9)
    assert filled.sum().item() == pytest.approx(195.9492662367, abs=1e-9)
    assert filled.abs().sum().item() == pytest.approx(2393.6011370687, abs=1e-9)


def test_filling_takes_rectangles_and_any_number_of_channels():
    pixels = torch.rand(2, 5, 32, 64)
    mask = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    filled = fill_masked(pixels, mask)
    torch.testing.assert_close(filled[0, :, 5, 5], pixels[0].mean((1, 2)))
    assert torch.equal(filled[1, :, :, :32], pixels[1, :, :, :32])
