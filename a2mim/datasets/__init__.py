"""Data: sources of images, transforms on bytes, datasets and samplers."""

from a2mim.datasets.collate import channels_last_collate
from a2mim.datasets.image_dataset import ImageDataset
from a2mim.datasets.masked_image import MaskedImageDataset
from a2mim.datasets.reading import IMAGE_SUFFIXES, read_image
from a2mim.datasets.repeated_sampler import RepeatedEpochSampler
from a2mim.datasets.samplers import EpochSampler, InfiniteEpochSampler, SampleKey
from a2mim.datasets.shard_sampler import ShardSampler
from a2mim.datasets.sources import (
    CIFAR,
    ImageFolder,
    ImageList,
    LmdbImages,
    PhotoPatches,
    WebShards,
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
