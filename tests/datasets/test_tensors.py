"""Batches from memory: the pixels and the distributions of the path by files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from a2mim.datasets.datasets import MaskedImageDataset
from a2mim.datasets.image_files import ImageFolder
from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.tensors import (
    SplitImageFolder,
    TensorImageDataset,
    cut,
    draw_boxes,
    draw_masks,
    whole_batch,
)
from a2mim.datasets.transforms import RandomResizedCrop, resize
from a2mim.masking import num_masked_patches

DRAWS = 4000
LEVEL = 1e-3  # of tests whose seeds are fixed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    'size, scale, ratio',
    [
        ((32, 32), (0.67, 1.0), (3 / 4, 4 / 3)),
        ((16, 16), (0.3, 1.0), (0.8, 1.25)),
        ((24, 40), (0.2, 0.9), (0.5, 2.0)),
        ((32, 32), (1.0, 1.0), (3.0, 3.0)),  # no trial fits
    ],
)
def test_boxes_have_the_distribution_of_the_transform(size, scale, ratio):
    crop = RandomResizedCrop(size=32, scale=scale, ratio=ratio)
    rng = np.random.default_rng(1)
    expected = np.array([crop.box(*size, rng) for _ in range(DRAWS)])
    found = draw_boxes(DRAWS, size, crop, generator()).numpy()
    for column in range(4):
        assert stats.ks_2samp(expected[:, column], found[:, column]).pvalue > LEVEL
    area = [np.prod(boxes[:, 2:], axis=1) for boxes in (expected, found)]
    assert stats.ks_2samp(*area).pvalue > LEVEL
    assert (found[:, 0] + found[:, 2] <= size[0]).all() and (found >= 0).all()
    assert (found[:, 1] + found[:, 3] <= size[1]).all() and (found[:, 2:] > 0).all()


@pytest.mark.parametrize('side', [16, 32, 33])
def test_a_cut_has_the_pixels_of_crop_resize_and_flip(side):
    images = torch.randint(0, 256, (40, 3, side, side), generator=generator(), dtype=torch.uint8)
    crop = RandomResizedCrop(size=side, scale=(0.1, 1.0))
    boxes = draw_boxes(40, (side, side), crop, generator(2))
    boxes[0] = torch.tensor([0, 0, side, side])
    flipped = torch.arange(40) % 2 == 1
    found = cut(images, boxes, flipped)
    for image, box, flip, one in zip(images, boxes.tolist(), flipped, found, strict=True):
        top, left, rows, columns = box
        expected = resize(
            image[:, top : top + rows, left : left + columns], (side, side), 'bilinear'
        )
        expected = expected.flip(-1) if flip else expected
        assert (one.int() - expected.int()).abs().max() <= 1
    assert torch.equal(found[0], images[0])


@pytest.mark.parametrize(
    'grid, ratio', [((4, 4), 0.6), ((8, 8), 0.75), ((3, 5), 0.07), ((2, 2), 1)]
)
def test_masks_have_the_count_of_the_transform_and_favour_no_block(grid, ratio):
    masks = draw_masks(DRAWS, grid, ratio, generator())
    count = num_masked_patches(grid, ratio)
    assert masks.shape == (DRAWS, *grid) and masks.dtype == torch.uint8
    assert (masks.sum((1, 2)) == count).all() and masks.max() <= 1
    blocks = grid[0] * grid[1]
    share, spread = count / blocks, (count / blocks * (1 - count / blocks) / DRAWS) ** 0.5
    assert (masks.float().mean(0) - share).abs().max() <= 4.5 * spread
    # Pairs of blocks, too: those of a random subset.
    both = masks.float().flatten(1).T @ masks.float().flatten(1) / DRAWS
    pair = count * (count - 1) / (blocks * (blocks - 1))
    off_diagonal = both[~torch.eye(blocks, dtype=torch.bool)]
    assert (off_diagonal - pair).abs().max() <= 5 * (pair * (1 - pair) / DRAWS) ** 0.5 + 1e-6


MASK = dict(type='PatchMask', image_size=16, block_size=4, ratio=0.6)
CROP = dict(scale=(0.6, 1.0), ratio=(0.8, 1.25))


def test_batches_are_those_of_the_files_in_mean_and_spread():
    """Pixels of the same images after crops and flips, averaged over epochs."""
    source = dict(type='Digits', split='val', labels_per_class=2)
    ours = TensorImageDataset(source, 16, CROP, 0.5, MASK)
    pipeline = [
        dict(type='Resize', size=16, interpolation='bilinear'),
        dict(type='RandomResizedCrop', size=16, **CROP),
        dict(type='RandomFlip', p=0.5),
    ]
    theirs = MaskedImageDataset(source, pipeline, MASK)
    keys = [[SampleKey(i, epoch) for i in range(len(ours))] for epoch in range(150)]
    batches = [ours.__getitems__(each) for each in keys]
    found = torch.stack([batch['image'][:, 0].double() for batch in batches])
    expected = torch.stack(
        [torch.stack([theirs[key]['image'][0].double() for key in each]) for each in keys]
    )
    error = (found.var(0) / len(keys) + expected.var(0) / len(keys)).sqrt().clamp(min=0.5)
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5
    assert float(found.std(0).mean()) == pytest.approx(float(expected.std(0).mean()), rel=0.05)
    assert torch.equal(
        batches[0]['label'], torch.tensor([theirs.source.label(i) for i in range(20)])
    )


def test_a_batch_depends_on_seed_epoch_and_first_key_alone():
    source = dict(type='Digits', split='val', labels_per_class=2)
    data = TensorImageDataset(source, 16, CROP, 0.5, MASK, seed=3)
    keys = [SampleKey(4, 1), SampleKey(0, 1), SampleKey(7, 1)]

    def same(one: dict, other: dict) -> bool:
        return all(torch.equal(one[name], other[name]) for name in one)

    first = data.__getitems__(keys)
    data.__getitems__([SampleKey(5, 9)])
    torch.rand(3)
    assert same(first, data.__getitems__(keys))
    again = TensorImageDataset(source, 16, CROP, 0.5, MASK, seed=4)
    assert not same(first, again.__getitems__(keys))
    later = [key._replace(epoch=2) for key in keys]
    assert not same(first, data.__getitems__(later))
    assert same(whole_batch([data[0], data[1]]), whole_batch(whole_batch([data[0], data[1]])))
    plain = TensorImageDataset(source, 8)
    assert torch.equal(plain[3]['image'], plain.source.load(3)) and 'mask' not in plain[3]


def test_a_tenth_of_each_class_is_for_validation(tmp_path):
    for name, number in (('cat', 25), ('dog', 40)):
        (tmp_path / name).mkdir()
        for index in range(number):
            Image.new('RGB', (4, 4), (index, 0, 0)).save(tmp_path / name / f'{index:02}.png')
    whole = ImageFolder(str(tmp_path), with_labels=True)
    train, val = (SplitImageFolder(str(tmp_path), part) for part in ('train', 'val'))
    assert (len(train), len(val)) == (22 + 36, 3 + 4)
    names = [{part.name(i) for i in range(len(part))} for part in (train, val, whole)]
    assert not names[0] & names[1] and names[0] | names[1] == names[2]
    assert [val.label(i) for i in range(7)] == [0, 0, 0, 1, 1, 1, 1]
    draws = [
        SplitImageFolder(str(tmp_path), 'train', labels_per_class=5, seed=seed)
        for seed in (0, 0, 1)
    ]
    drawn = [{each.name(i) for i in range(len(each))} for each in draws]
    assert drawn[0] == drawn[1] != drawn[2] and drawn[2] < names[0] and len(drawn[0]) == 10
    with pytest.raises(ValueError, match='part='):
        SplitImageFolder(str(tmp_path), 'test')
    with pytest.raises(ValueError, match='labels_per_class=4'):
        SplitImageFolder(str(tmp_path), 'val', labels_per_class=4)
