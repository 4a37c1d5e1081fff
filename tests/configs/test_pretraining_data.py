"""Pre-training recipes: images, crops, masks and batches are the published ones.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from a2mim.registry import TRANSFORMS
from recipes import pretraining, pretraining_recipes

IMAGES = {'ImageNet': 1_281_167, 'ImageNet100': 126_689, 'cifar10': 50_000, 'cifar100': 50_000}


class Row(NamedTuple):
    """One recipe. ``batch`` is per GPU and ``pictures`` the epochs between two pictures."""

    images: str
    size: int
    smallest_crop: float
    batch: int
    gpus: int
    accumulation: int
    workers: int
    pictures: int


A2MIM = {
    'imagenet/r50_l3_sz224_init_8xb256_cos_ep100': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/r50_l3_sz224_8xb256_cos_ep100': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/r50_l0_sz224_8xb256_cos_ep100': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/r50_l3_sz224_init_8xb256_cos_ep300': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 25),
    'imagenet/r50_l3_sz224_init_1xb256_accu8_cos_ep300': Row(
        'ImageNet', 224, 0.8, 256, 1, 8, 10, 25
    ),
    'imagenet/r101_l3_sz224_init_8xb256_cos_ep300': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/r152_l3_sz224_init_8xb256_cos_ep300': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/r200_l3_sz224_init_8xb256_cos_ep300': Row('ImageNet', 224, 0.8, 256, 8, 1, 10, 10),
    'imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300': Row(
        'ImageNet', 224, 0.8, 256, 8, 1, 10, 25
    ),
    'imagenet/convnext_t_l3_sz224_init_1xb256_accu8_cos_ep300': Row(
        'ImageNet', 224, 0.8, 256, 1, 8, 10, 25
    ),
    'imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300': Row(
        'ImageNet', 224, 0.8, 256, 8, 1, 10, 25
    ),
    'imagenet/convnext_b_l3_sz224_init_8xb256_cos_ep300': Row(
        'ImageNet', 224, 0.8, 256, 8, 1, 10, 25
    ),
    'imagenet/vit_small_l0_sz224_8xb256_step_ep800': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/vit_small_l0_sz224_1xb256_accu8_step_ep800': Row(
        'ImageNet', 224, 0.67, 256, 1, 8, 12, 25
    ),
    'imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800': Row(
        'ImageNet', 224, 0.67, 128, 8, 2, 12, 25
    ),
    'imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800': Row(
        'ImageNet', 224, 0.67, 128, 8, 2, 12, 25
    ),
    'imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800': Row(
        'ImageNet100', 192, 0.67, 256, 4, 2, 10, 100
    ),
    'imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800': Row(
        'ImageNet100', 192, 0.67, 256, 4, 2, 10, 100
    ),
    'imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800': Row(
        'ImageNet100', 192, 0.8, 256, 4, 2, 10, 100
    ),
    # Published with a batch of 64 against its name.
    'cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000': Row(
        'cifar100', 224, 0.67, 256, 4, 2, 4, 100
    ),
    'cifar100/vit_small_l0_sz224_4xb256_accu2_cos_ep1000': Row(
        'cifar100', 224, 0.67, 256, 4, 2, 8, 100
    ),
}
SIMMIM = {
    'imagenet/r50_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/r101_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/r152_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/r200_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/convnext_tiny_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/convnext_small_sz224_8xb256_fp16_ep300': Row(
        'ImageNet', 224, 0.67, 256, 8, 1, 12, 25
    ),
    # Published with an accumulation of 2 against its name.
    'imagenet/convnext_base_sz224_8xb256_fp16_ep300': Row('ImageNet', 224, 0.67, 256, 8, 1, 12, 25),
    'imagenet/vit_small_sz224_8xb256_step_fp16_ep800': Row(
        'ImageNet', 224, 0.67, 256, 8, 1, 12, 25
    ),
    'imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'ImageNet', 224, 0.67, 128, 8, 2, 10, 25
    ),
    'imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'ImageNet', 224, 0.67, 128, 8, 2, 10, 25
    ),
    'imagenet/vit_large_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'ImageNet', 224, 0.67, 128, 8, 2, 12, 25
    ),
    'imagenet/swin_base_sz192_8xb128_accu2_cos_ep100': Row(
        'ImageNet', 192, 0.67, 128, 8, 2, 10, 25
    ),
    'imagenet/swin_base_sz192_8xb128_accu2_cos_ep800': Row(
        'ImageNet', 192, 0.67, 128, 8, 2, 10, 25
    ),
    'imagenet100/r50_sz192_8xb128_accu2_cos_ep800': Row(
        'ImageNet100', 192, 0.67, 128, 8, 2, 6, 100
    ),
    'imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800': Row(
        'ImageNet100', 192, 0.67, 128, 8, 2, 6, 100
    ),
    'cifar10/swin_base_sz192_8xb64_accu4_cos_ep1000': Row('cifar10', 192, 0.67, 64, 8, 4, 4, 100),
    'cifar100/swin_base_sz192_8xb64_accu4_cos_ep1000': Row('cifar100', 192, 0.67, 64, 8, 4, 4, 100),
}
ROWS = {f'a2mim/{name}': row for name, row in A2MIM.items()} | {
    f'simmim/{name}': row for name, row in SIMMIM.items()
}
every_recipe = pytest.mark.parametrize('name, row', ROWS.items(), ids=list(ROWS))


def test_every_recipe_is_in_the_table():
    assert set(ROWS) == pretraining_recipes()


@every_recipe
def test_images_come_from_the_published_place(name, row):
    source = pretraining(name).train_dataloader.dataset.source
    assert source == {
        'ImageNet': dict(type='ImageFolder', root='data/ImageNet/train'),
        'ImageNet100': dict(
            type='ImageList',
            list_file='data/meta/ImageNet100/train.txt',
            root='data/ImageNet/train',
        ),
        'cifar10': dict(type='CIFAR', root='data/cifar10', name='cifar10', download=True),
        'cifar100': dict(type='CIFAR', root='data/cifar100', name='cifar100', download=True),
    }.get(row.images)


@every_recipe
def test_images_are_cropped_and_flipped_and_nothing_else(name, row):
    crop, flip = map(TRANSFORMS.build, pretraining(name).train_dataloader.dataset.pipeline)
    assert type(crop).__name__ == 'RandomResizedCrop' and type(flip).__name__ == 'RandomFlip'
    assert crop.size == (row.size, row.size)
    assert tuple(crop.scale) == (row.smallest_crop, 1.0)
    assert crop.ratio == (3 / 4, 4 / 3)
    assert crop.interpolation == 'bilinear'
    assert flip.p == 0.5


@every_recipe
def test_60_percent_of_blocks_of_32_pixels_are_hidden(name, row):
    mask = TRANSFORMS.build(pretraining(name).train_dataloader.dataset.mask)
    side = row.size // 32
    assert mask.image_size == (row.size, row.size) and mask.grid == (side, side)
    hidden = mask(np.random.default_rng(0))
    assert hidden.sum() == {224: 30, 192: 22}[row.size]


@every_recipe
def test_pixels_are_normalised_with_the_statistics_of_their_data(name, row):
    preprocessor = pretraining(name).model.data_preprocessor
    mean, std = {
        True: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
        False: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }['cifar' in row.images]
    torch.testing.assert_close(torch.tensor(preprocessor.mean), torch.tensor(mean) * 255)
    torch.testing.assert_close(torch.tensor(preprocessor.std), torch.tensor(std) * 255)


@every_recipe
def test_a_step_sees_2048_images(name, row):
    config = pretraining(name)
    assert config.train_dataloader.batch_size == row.batch
    assert config.optim_wrapper.get('accumulative_counts', 1) == row.accumulation
    assert row.batch * row.gpus * row.accumulation == 2048
    assert config.auto_scale_lr == dict(base_batch_size=2048, enable=False)


@every_recipe
def test_an_epoch_has_the_published_length(name, row):
    iterations = math.ceil(IMAGES[row.images] / (row.batch * row.gpus))
    published = {
        ('ImageNet', 2048): 626,
        ('ImageNet', 1024): 1252,
        ('ImageNet', 256): 8 * 626 - 3,  # ours: the last step of an epoch goes on in the next
        ('ImageNet100', 1024): 124,
        ('cifar10', 512): 98,
        ('cifar100', 512): 98,
        ('cifar100', 1024): 49,
    }
    assert iterations == published[row.images, row.batch * row.gpus]


@every_recipe
def test_workers_and_pictures_are_as_published(name, row):
    config = pretraining(name)
    assert config.train_dataloader.num_workers == row.workers
    assert config.default_hooks.reconstruction.interval == row.pictures


@every_recipe
def test_logs_and_checkpoints_are_as_published(name, row):
    config = pretraining(name)
    interval = 20 if name.startswith('a2mim/cifar') else 50
    assert config.default_hooks.logger.interval == config.log_processor.window_size == interval
    assert config.default_hooks.checkpoint == dict(
        type='CheckpointHook', interval=10, max_keep_ckpts=1
    )
