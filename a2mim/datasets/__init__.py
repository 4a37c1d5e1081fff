"""Data: sources of images, transforms on bytes, datasets and samplers."""

from a2mim.datasets.archives import LmdbImages, WebShards
from a2mim.datasets.builtin import CIFAR, PhotoPatches
from a2mim.datasets.datasets import ImageDataset, MaskedImageDataset, channels_last_collate
from a2mim.datasets.decoding import IMAGE_SUFFIXES, read_image
from a2mim.datasets.image_files import ImageFolder, ImageList
from a2mim.datasets.samplers import (
    EpochSampler,
    InfiniteEpochSampler,
    RepeatedEpochSampler,
    SampleKey,
    ShardSampler,
)
from a2mim.datasets.transforms import (
    BlockMask,
    CenterCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    TimmAugment,
    TorchvisionTransform,
)

__all__ = [
    'CIFAR',
    'IMAGE_SUFFIXES',
    'BlockMask',
    'CenterCrop',
    'EpochSampler',
    'ImageDataset',
    'ImageFolder',
    'ImageList',
    'InfiniteEpochSampler',
    'LmdbImages',
    'MaskedImageDataset',
    'PhotoPatches',
    'RandomErasing',
    'RandomFlip',
    'RandomResizedCrop',
    'RepeatedEpochSampler',
    'Resize',
    'SampleKey',
    'ShardSampler',
    'TimmAugment',
    'TorchvisionTransform',
    'WebShards',
    'channels_last_collate',
    'read_image',
]
