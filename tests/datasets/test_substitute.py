"""Another image in place of one that cannot be read: a function of the sample's key."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from a2mim.datasets import EpochSampler, SampleKey, channels_last_collate
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS

BAD = (3, 8)  # of 2 × 6 images


@pytest.fixture
def root(tmp_path):
    """Class folders a and b; image i is uniformly i, but for those that are damaged."""
    for index in range(12):
        path = tmp_path / 'ab'[index // 6] / f'{index:02}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(path)
        if index in BAD:
            path.write_bytes(b'')
    return tmp_path


def labelled(root, on_bad_image: str = 'substitute', **options: object):
    source = {'type': 'ImageFolder', 'root': str(root), 'with_labels': True}
    config = {'source': source, 'pipeline': [], 'on_bad_image': on_bad_image, **options}
    return DATASETS.build({'type': 'ImageDataset', **config})


def masked(root, **options: object):
    mask = {'type': 'PatchMask', 'image_size': 8, 'block_size': 4}
    return labelled(root, type='MaskedImageDataset', mask=mask, **options)


def level(sample: dict) -> int:
    return int(sample['image'][0, 0, 0])


def test_a_good_image_is_itself_and_says_so(root):
    sample = labelled(root)[2]
    assert (level(sample), sample['unreadable']) == (2, -1)


def test_a_bad_image_becomes_a_good_one_with_the_label_of_that(root):
    for epoch in range(20):
        for dataset in (labelled(root), masked(root)):
            sample = dataset[SampleKey(3, epoch)]
            assert level(sample) not in BAD
            assert sample['label'] == level(sample) // 6
            assert sample['unreadable'] == 3


def test_the_substitute_is_a_function_of_seed_and_key(root):
    keys = [SampleKey(3, epoch, repeat) for epoch in range(20) for repeat in range(2)]
    levels = [[level(labelled(root, seed=seed)[key]) for key in keys] for seed in (0, 0, 1)]
    assert levels[0] == levels[1] != levels[2]
    assert set(levels[0]) == set(range(12)) - set(BAD)


def test_mask_and_box_are_those_of_the_key(root):
    erase = {'type': 'RandomErasing', 'image_size': 8, 'p': 1}
    key = SampleKey(3, 5)
    broken = masked(root)[key]['mask'], labelled(root, erase=erase)[key]['erase']
    for index in BAD:
        Image.new('RGB', (8, 8)).save(root / 'ab'[index // 6] / f'{index:02}.png')
    whole = masked(root)[key]['mask'], labelled(root, erase=erase)[key]['erase']
    assert all(map(torch.equal, broken, whole))


def test_evaluation_refuses_and_says_what_to_do(root):
    with pytest.raises(BadDataError, match=r'03\.png.*it is empty.*verify_dataset\.py'):
        labelled(root, 'raise')[3]
    assert 'unreadable' not in labelled(root, 'raise')[2]


def test_refusing_is_what_happens_unless_something_else_is_said(root):
    source = {'type': 'ImageFolder', 'root': str(root), 'with_labels': True}
    dataset = DATASETS.build({'type': 'ImageDataset', 'source': source, 'pipeline': []})
    with pytest.raises(BadDataError):
        dataset[3]


def test_an_unknown_rule_is_refused_at_construction(root):
    with pytest.raises(ValueError, match=r"on_bad_image='skip' must be one of \['raise'"):
        labelled(root, 'skip')


@pytest.mark.parametrize('number', [1, 12])
def test_a_folder_without_any_good_image_ends_the_search(root, number):
    for path in sorted(root.glob('*/*.png'))[number:]:
        path.unlink()
    for path in root.glob('*/*.png'):
        path.write_bytes(b'')
    dataset = DATASETS.build(
        {
            'type': 'MaskedImageDataset',
            'source': {'type': 'ImageFolder', 'root': str(root)},
            'pipeline': [],
            'mask': {'type': 'PatchMask', 'image_size': 8, 'block_size': 4},
            'on_bad_image': 'substitute',
        }
    )
    with pytest.raises(BadDataError, match=r'00\.png.*in its place cannot be read either'):
        dataset[0]


def test_a_fault_in_the_pipeline_is_not_taken_for_a_bad_image(root):
    dataset = labelled(root, pipeline=[{'type': 'CenterCrop', 'size': 64}])
    with pytest.raises(ValueError, match='cannot cut 64×64 pixels'):
        dataset[2]


def test_batches_are_the_same_with_0_and_2_workers(root):
    dataset = masked(root)
    runs = []
    for num_workers in (0, 2):
        loader = DataLoader(
            dataset,
            batch_size=4,
            sampler=EpochSampler(dataset, seed=0),
            num_workers=num_workers,
            collate_fn=channels_last_collate,
        )
        runs.append(list(loader))
    for alone, parallel in zip(*runs, strict=True):
        assert alone.keys() == parallel.keys()
        assert all(torch.equal(alone[name], parallel[name]) for name in alone)
    noted = torch.cat([batch['unreadable'] for batch in runs[0]])
    assert noted.dtype == torch.int64
    assert sorted(noted[noted >= 0].tolist()) == list(BAD)
