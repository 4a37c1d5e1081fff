"""Transforms ``(image, rng) -> image`` on uint8 tensors (C, H, W); masks and boxes."""

from a2mim.datasets.transforms.block_mask import BlockMask
from a2mim.datasets.transforms.center_crop import CenterCrop
from a2mim.datasets.transforms.pipeline import Pipeline
from a2mim.datasets.transforms.random_erasing import RandomErasing
from a2mim.datasets.transforms.random_flip import RandomFlip
from a2mim.datasets.transforms.random_resized_crop import RandomResizedCrop
from a2mim.datasets.transforms.resize import Resize
from a2mim.datasets.transforms.timm_augment import TimmAugment
from a2mim.datasets.transforms.torchvision_transform import TorchvisionTransform

__all__ = [
    'BlockMask',
    'CenterCrop',
    'Pipeline',
    'RandomErasing',
    'RandomFlip',
    'RandomResizedCrop',
    'Resize',
    'TimmAugment',
    'TorchvisionTransform',
]
