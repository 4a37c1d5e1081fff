"""Image sources, transforms, data sets and samplers; importing this registers them all."""

from a2mim.datasets.archives import LmdbImages, WebShards
from a2mim.datasets.builtin import CIFAR, Digits, PhotoPatches
from a2mim.datasets.datasets import ImageDataset, MaskedImageDataset, channels_last_collate
from a2mim.datasets.decoding import IMAGE_SUFFIXES, read_image
from a2mim.datasets.image_files import ImageFolder, ImageList
from a2mim.datasets.samplers import (
    ClassBalancedSampler,
    EpochSampler,
    InfiniteEpochSampler,
    RepeatedEpochSampler,
    SampleKey,
    ShardSampler,
)
from a2mim.datasets.tensors import SplitImageFolder, TensorImageDataset, whole_batch
from a2mim.datasets.transforms import (
    CenterCrop,
    PatchMask,
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
    'CenterCrop',
    'ClassBalancedSampler',
    'Digits',
    'EpochSampler',
    'ImageDataset',
    'ImageFolder',
    'ImageList',
    'InfiniteEpochSampler',
    'LmdbImages',
    'MaskedImageDataset',
    'PatchMask',
    'PhotoPatches',
    'RandomErasing',
    'RandomFlip',
    'RandomResizedCrop',
    'RepeatedEpochSampler',
    'Resize',
    'SampleKey',
    'ShardSampler',
    'SplitImageFolder',
    'TensorImageDataset',
    'TimmAugment',
    'TorchvisionTransform',
    'WebShards',
    'channels_last_collate',
    'read_image',
    'whole_batch',
]
