"""What fine-tuning does to an image is what was published, operation by operation.

Sources of the numbers: tests/data/README.md, "Recipes". What RandAugment does inside is in
``tests/datasets/test_rand_augment.py``, what mixing does in ``tests/models/test_mixing.py``.
"""

from pathlib import Path

import pytest
from mmengine import Config
from torchvision.transforms import v2

from a2mim.datasets import (
    CenterCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    TimmAugment,
    TorchvisionTransform,
)
from a2mim.registry import TRANSFORMS

BASES = Path(__file__).parents[2] / 'configs/openmixup/finetune/_base_/datasets'


def crop(side: int, least: float = 0.08) -> tuple:
    """The published crop: any area from 8 % (small images: 20 %), aspect 3/4 to 4/3, bicubic."""
    return RandomResizedCrop, (side, side), (least, 1.0), (3 / 4, 4 / 3), 'bicubic'


def padded_crop(mode: str) -> tuple:
    """A crop out of 32 pixels and 4 more on each side."""
    return TorchvisionTransform, (32, 32), [4, 4, 4, 4], mode


def erasing(side: int) -> tuple:
    return RandomErasing, (side, side), 0.25


FLIP = (RandomFlip, 0.5)
# Brightness, contrast and saturation by up to 40 %, no hue.
COLOURS = (TorchvisionTransform, (0.6, 1.4), (0.6, 1.4), (0.6, 1.4), None)
AUGMENT = TimmAugment, 2, 0.5, 0.5  # operations, probability of each, deviation of the level
TEST_CROP = (CenterCrop, (224, 224))
LARGE_TEST = [(Resize, 256, 'bicubic'), TEST_CROP]
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
        erasing(224),
        LARGE_TEST,
    ),
    **{
        f'{images}_swin_ft_sz192': (
            [crop(192), FLIP, (*AUGMENT, 9)],
            erasing(192),
            [(Resize, 219, 'bicubic'), (CenterCrop, (192, 192))],
        )
        for images in ('imagenet', 'imagenet100')
    },
    'imagenet100_swin_ft_sz224': ([crop(224), FLIP, (*AUGMENT, 9)], erasing(224), LARGE_TEST),
    'imagenet_sz224': ([crop(224), FLIP], None, LARGE_TEST),
    'imagenet_1_percent_sz224': ([crop(224), FLIP], None, LARGE_TEST),
    'imagenet_10_percent_sz224': ([crop(224), FLIP], None, LARGE_TEST),
    'imagenet100_sz224': ([crop(224), FLIP], None, LARGE_TEST),
    'imagenet100_color_sz224': ([crop(224), FLIP, COLOURS], None, LARGE_TEST),
    'cifar10_sz224': ([crop(224, 0.2), FLIP], None, LARGE_TEST),
    'cifar100_sz224': ([crop(224, 0.2), FLIP], None, LARGE_TEST),
    'cifar100_swin_ft_sz224': (
        [crop(224, 0.2), FLIP, (*AUGMENT, 9)],
        erasing(224),
        LARGE_TEST,
    ),
    'cifar10_sz32': ([padded_crop('constant'), FLIP], None, []),
    'cifar100_sz32': ([padded_crop('reflect'), FLIP], None, []),
    'stl10_sz96': ([crop(96, 0.2), FLIP], None, []),
    'stl10_swin_ft_sz96': ([crop(96, 0.2), FLIP, (*AUGMENT, 9)], erasing(96), []),
}
every_base = pytest.mark.parametrize('name', PUBLISHED)


def describe(transform: object) -> tuple:
    """Class and numbers of a built transform, in the order of the table."""
    kind = type(transform)
    if kind is TimmAugment:
        operation = transform.augment.ops[0]
        options = (operation.prob, operation.magnitude_std, operation.magnitude)
        return kind, transform.augment.num_layers, *options
    if kind is TorchvisionTransform:
        inner = transform.transform
        if isinstance(inner, v2.ColorJitter):
            return kind, inner.brightness, inner.contrast, inner.saturation, inner.hue
        return kind, tuple(inner.size), inner.padding, inner.padding_mode
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
    metric = 'StageAccuracy' if 'color' in name else 'Accuracy'
    assert config.val_evaluator == dict(type=metric, topk=(1, 5))
    loader = config.val_dataloader
    batch = 100 if name.startswith(('cifar', 'stl')) else 128
    assert (loader.batch_size, loader.num_workers) == (batch, 4)
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False)


def folders(root: str) -> dict:
    return dict(type='ImageFolder', root=root, with_labels=True)


def listed(meta: str, root: str) -> dict:
    return dict(type='ImageList', list_file=f'data/meta/{meta}.txt', root=root)


def cifar(name: str, **part: bool) -> dict:
    return dict(type='CIFAR', root=f'data/{name}', name=name, **part, download=True)


TRAIN, VAL = 'data/ImageNet/train', 'data/ImageNet/val'
SOURCES = {  # first word of the base: images to train on, images to test with
    'imagenet': (folders(TRAIN), folders(VAL)),
    'imagenet_1': (listed('ImageNet/train_labeled_1percent', TRAIN), folders(VAL)),
    'imagenet_10': (listed('ImageNet/train_labeled_10percent', TRAIN), folders(VAL)),
    'imagenet100': (
        listed('ImageNet100/train_labeled', TRAIN),
        listed('ImageNet100/val_labeled', VAL),
    ),
    'cifar10': (cifar('cifar10'), cifar('cifar10', train=False)),
    'cifar100': (cifar('cifar100'), cifar('cifar100', train=False)),
    'stl10': (folders('data/stl10/train'), folders('data/stl10/test')),
}


@every_base
def test_training_and_testing_read_the_published_images(name):
    config = Config.fromfile(BASES / f'{name}.py')
    words = name.split('_')
    key = '_'.join(words[:2]) if 'percent' in words else words[0]
    found = config.train_dataloader.dataset.source, config.val_dataloader.dataset.source
    assert found == SOURCES[key]


def test_no_shipped_base_is_left_out():
    assert {path.stem for path in BASES.glob('*.py')} == PUBLISHED.keys()
