"""Samples and batches, through the data loader."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from a2mim.datasets import EpochSampler, SampleKey, channels_last_collate
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS, FUNCTIONS

PIPELINE = [
    {'type': 'RandomResizedCrop', 'size': 32, 'scale': (0.5, 1.0)},
    {'type': 'RandomFlip'},
    {'type': 'TimmAugment', 'policy': 'rand-m6-mstd0.5-inc1'},
]
MASK = {'type': 'PatchMask', 'image_size': 32, 'block_size': 8}


@pytest.fixture
def root(tmp_path):
    """Two classes with three photographs-like images each."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / 'ab'[number % 2]
        path.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(path / f'{number}.jpg')
    return tmp_path


def masked(root, *, pipeline=PIPELINE, mask=MASK, seed=0, **source: object):
    return DATASETS.build(
        {
            'type': 'MaskedImageDataset',
            'source': {'type': 'ImageFolder', 'root': str(root), **source},
            'pipeline': pipeline,
            'mask': mask,
            'seed': seed,
        }
    )


def labelled(root, **source: object):
    return DATASETS.build(
        {
            'type': 'ImageDataset',
            'source': {'type': 'ImageFolder', 'root': str(root), **source},
            'pipeline': PIPELINE,
        }
    )


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first
    )


def test_a_sample_is_bytes_and_a_mask_of_blocks(root):
    sample = masked(root)[0]
    assert set(sample) == {'image', 'mask'}
    assert (sample['image'].dtype, sample['image'].shape) == (torch.uint8, (3, 32, 32))
    assert (sample['mask'].dtype, sample['mask'].shape) == (torch.uint8, (4, 4))
    assert sample['mask'].sum() == 10


def test_a_labelled_source_adds_its_labels(root):
    assert masked(root, with_labels=True)[4]['label'] == 1


def test_a_sample_is_a_function_of_its_key(root):
    key = SampleKey(2, epoch=3, repeat=1)
    assert equal(masked(root)[key], masked(root)[key])


@pytest.mark.parametrize('other', [SampleKey(2, 4, 1), SampleKey(2, 3, 0), SampleKey(2, 0, 1)])
def test_another_epoch_or_copy_is_another_sample(root, other):
    dataset = masked(root)
    first, second = dataset[SampleKey(2, 3, 1)], dataset[other]
    assert not torch.equal(first['image'], second['image'])
    assert not torch.equal(first['mask'], second['mask'])


def test_another_seed_is_another_sample(root):
    assert not equal(masked(root)[1], masked(root, seed=1)[1])


def test_the_mask_does_not_depend_on_the_augmentations(root):
    plain = [{'type': 'Resize', 'size': (32, 32)}]
    assert torch.equal(masked(root)[3]['mask'], masked(root, pipeline=plain)[3]['mask'])


def loaded(root, num_workers: int) -> list[dict]:
    dataset = masked(root, with_labels=True)
    sampler = EpochSampler(dataset, seed=0)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=channels_last_collate,
        persistent_workers=num_workers > 0,
    )
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_samples_are_the_same_with_0_1_and_2_workers(root):
    alone, one, two = (loaded(root, num_workers) for num_workers in range(3))
    assert len(alone) == 6
    assert all(map(equal, alone, one))
    assert all(map(equal, alone, two))


@pytest.mark.parametrize('make', [masked, lambda root: labelled(root, with_labels=True)])
def test_the_samples_of_a_batch_are_those_of_their_keys(root, make):
    keys = [SampleKey(1, 2), 3, SampleKey(1, 2), SampleKey(1, 2, 1), SampleKey(5, 2**33)]
    together, alone = make(root), make(root)
    assert all(map(equal, together.__getitems__(keys), [alone[key] for key in keys]))
    last = sorted(root.rglob('*.jpg'))[-1]
    content = last.read_bytes()
    last.write_bytes(b'')
    with pytest.raises(BadDataError):
        together.__getitems__([SampleKey(5, 4), *keys])
    last.write_bytes(content)
    assert all(map(equal, together.__getitems__(keys), [alone[key] for key in keys]))
    assert equal(together[3], alone[3])


def test_a_dataset_can_be_sent_to_a_spawned_worker(root):
    dataset = masked(root)
    assert equal(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


def test_a_rectangle_of_six_bands_works_end_to_end(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (40, 50, 6), dtype=np.uint8)
    np.save(tmp_path / 'a.npy', bands)
    dataset = masked(
        tmp_path,
        channels=6,
        pipeline=[{'type': 'RandomResizedCrop', 'size': (16, 32)}, {'type': 'RandomFlip', 'p': 1}],
        mask={'type': 'PatchMask', 'image_size': (16, 32), 'block_size': 8},
    )
    batch = channels_last_collate([dataset[0]])
    assert batch['image'].shape == (1, 6, 16, 32)
    assert batch['mask'].shape == (1, 2, 4)


def test_a_pipeline_of_another_size_than_the_mask_is_refused(root):
    dataset = masked(root, mask={'type': 'PatchMask', 'image_size': 64, 'block_size': 32})
    with pytest.raises(
        ValueError, match=r'images of \(32, 32\) pixels but .*image_size=\(64, 64\)'
    ):
        dataset[0]


def test_a_block_size_that_does_not_divide_is_refused_at_construction(root):
    with pytest.raises(ValueError, match='block_size=12 does not divide image_size=32'):
        masked(root, mask={'type': 'PatchMask', 'image_size': 32, 'block_size': 12})


def test_a_labelled_sample_is_an_image_and_a_class(root):
    dataset = labelled(root, with_labels=True)
    sample = dataset[5]
    assert set(sample) == {'image', 'label'}
    assert sample['label'] == 1
    assert dataset.metainfo == {'classes': ('a', 'b')}


def test_classification_without_labels_is_refused(root):
    with pytest.raises(ValueError, match='has no labels, which classification needs'):
        labelled(root)


def test_batches_hold_what_default_collation_holds_in_channels_last(root):
    samples = [labelled(root, with_labels=True)[index] for index in range(4)]
    batch, expected = channels_last_collate(samples), default_collate(samples)
    assert equal(batch, expected)
    assert batch['image'].is_contiguous(memory_format=torch.channels_last)
    assert batch['label'].dtype == torch.int64


def test_collation_is_found_by_name():
    assert FUNCTIONS.get('channels_last_collate') is channels_last_collate
