"""The embedded photographs."""

import numpy as np
import pytest
import torch

from a2mim.datasets import PhotoPatches

SPLITS = ('train', 'val', 'test')


def used_pixels(source: PhotoPatches) -> np.ndarray:
    """Which pixels of which photograph a split shows, (14, H, W)."""
    used = np.zeros(source.canvases.shape[:3], dtype=bool)
    for photo, top, left in source.patches:
        used[photo, top : top + source.patch_size, left : left + source.patch_size] = True
    return used


def test_splits_share_no_pixel():
    used = np.stack([used_pixels(PhotoPatches(split)) for split in SPLITS])
    assert used.sum(0).max() == 1


def test_splits_keep_a_distance():
    train, *others = (used_pixels(PhotoPatches(split)) for split in SPLITS)
    grown = train.copy()
    for shift in range(1, 8):
        for axis in (1, 2):
            grown |= np.roll(train, shift, axis) | np.roll(train, -shift, axis)
    assert not any((grown & other).any() for other in others)


@pytest.mark.parametrize(('split', 'count'), [('train', 1512), ('val', 504), ('test', 504)])
def test_every_photograph_gives_the_same_number_of_patches(split, count):
    source = PhotoPatches(split)
    assert len(source) == count
    labels = [source.label(index) for index in range(count)]
    assert set(np.bincount(labels)) == {count // 14}
    assert len(source.classes) == 14


def test_a_patch_is_a_view_of_its_photograph():
    source = PhotoPatches('val', patch_size=32)
    patch = source.load(5)
    photo, top, left = source.patches[5]
    expected = source.canvases[photo, top : top + 32, left : left + 32]
    assert patch.dtype == torch.uint8
    np.testing.assert_array_equal(patch.permute(1, 2, 0).numpy(), expected)


def test_grey_photographs_have_three_equal_channels():
    source = PhotoPatches('val')
    index = [source.label(index) for index in range(len(source))].index(
        source.classes.index('brick')
    )
    red, green, blue = source.load(index)
    assert torch.equal(red, green)
    assert torch.equal(red, blue)


def test_patches_are_the_same_in_every_run():
    first, second = PhotoPatches('test'), PhotoPatches('test')
    assert torch.equal(first.load(100), second.load(100))


def test_few_labels_come_from_different_regions_and_change_with_the_seed():
    sources = [PhotoPatches('train', labels_per_class=6, seed=seed) for seed in range(3)]
    for source in sources:
        assert np.bincount(source.patches[:, 0]).tolist() == [6] * 14
        regions = {(photo, top // 120, left // 120) for photo, top, left in source.patches}
        # Of 12 regions in a ring, 6 runs of two: two patches share one if it is their border.
        assert len(regions) > 0.75 * 6 * 14
    assert len({source.patches.tobytes() for source in sources}) == 3


@pytest.mark.parametrize('options', [{'patch_size': 113}, {'patch_size': 0}, {'stride': 0}])
def test_patches_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=r'patch_size=\d+ must lie in \[1, 112\]'):
        PhotoPatches(**options)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='dev' must be 'train', 'val' or 'test'"):
        PhotoPatches('dev')
