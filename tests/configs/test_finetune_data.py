"""What fine-tuning does to an image is what was published, operation by operation.

Sources of the numbers: tests/data/README.md, "Recipes". What RandAugment does inside is in
``tests/datasets/test_rand_augment.py``, what mixing does in ``tests/models/test_mixing.py``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine import Config
from mmengine.registry import DefaultScope, init_default_scope

from a2mim.datasets import (
    CenterCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    TimmAugment,
)
from a2mim.registry import TRANSFORMS

BASES = Path(__file__).parents[2] / 'configs/openmixup/finetune/_base_/datasets'


def crop(side: int) -> tuple:
    """The published crop: any area from 8 %, aspect from 3/4 to 4/3, bicubic."""
    return RandomResizedCrop, (side, side), (0.08, 1.0), (3 / 4, 4 / 3), 'bicubic'


FLIP = (RandomFlip, 0.5)
AUGMENT = TimmAugment, 2, 0.5, 0.5  # operations, probability of each, deviation of the level
TEST_CROP = (CenterCrop, (224, 224))
PUBLISHED = {  # base: (training, erasing, testing)
    'imagenet_rsb_a2': (
        [crop(224), FLIP, (*AUGMENT, 7)],
        None,
        [(Resize, 236, 'bicubic'), TEST_CROP],
    ),
    'imagenet_rsb_a3': (
        [crop(160), FLIP, (*AUGMENT, 6)],
        None,
        [(Resize, 236, 'bicubic'), TEST_CROP],
    ),
    'imagenet_swin_ft_sz224': (
        [crop(224), FLIP, (*AUGMENT, 9)],
        (RandomErasing, (224, 224), 0.25),
        [(Resize, 256, 'bicubic'), TEST_CROP],
    ),
}
every_base = pytest.mark.parametrize('name', PUBLISHED)


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    init_default_scope('a2mim')
    yield
    DefaultScope._instance_dict.popitem()


def describe(transform: object) -> tuple:
    """Class and numbers of a built transform, in the order of the table."""
    kind = type(transform)
    if kind is TimmAugment:
        operation = transform.augment.ops[0]
        options = (operation.prob, operation.magnitude_std, operation.magnitude)
        return kind, transform.augment.num_layers, *options
    names = {
        RandomResizedCrop: ('size', 'scale', 'ratio', 'interpolation'),
        RandomFlip: ('p',),
        RandomErasing: ('image_size', 'p'),
        Resize: ('size', 'interpolation'),
        CenterCrop: ('size',),
    }
    return kind, *(getattr(transform, name) for name in names[kind])


def described(pipeline: list[dict]) -> list[tuple]:
    return [describe(TRANSFORMS.build(entry)) for entry in pipeline]


@every_base
def test_training_images_pass_the_published_operations_in_their_order(name):
    dataset = Config.fromfile(BASES / f'{name}.py').train_dataloader.dataset
    assert described(dataset.pipeline) == PUBLISHED[name][0]


@every_base
def test_images_are_erased_where_it_was_published(name):
    erase = Config.fromfile(BASES / f'{name}.py').train_dataloader.dataset.get('erase')
    assert (describe(TRANSFORMS.build(erase)) if erase else None) == PUBLISHED[name][1]


@every_base
def test_test_images_are_resized_and_cropped_as_published(name):
    dataset = Config.fromfile(BASES / f'{name}.py').val_dataloader.dataset
    assert described(dataset.pipeline) == PUBLISHED[name][2]
    assert 'erase' not in dataset


@every_base
def test_evaluation_counts_the_first_and_the_first_five_classes_of_every_image_once(name):
    config = Config.fromfile(BASES / f'{name}.py')
    assert config.val_evaluator == dict(type='Accuracy', topk=(1, 5))
    loader = config.val_dataloader
    assert (loader.batch_size, loader.num_workers) == (128, 4)
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False)


@every_base
def test_training_reads_the_labelled_images_of_imagenet(name):
    source = Config.fromfile(BASES / f'{name}.py').train_dataloader.dataset.source
    assert source == dict(type='ImageFolder', root='data/ImageNet/train', with_labels=True)
