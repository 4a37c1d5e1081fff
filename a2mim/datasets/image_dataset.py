"""Labelled images for classification.

Axes: C channels, (H, W) pixels.
"""

import torch
from torch.utils.data import Dataset

from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.transforms.pipeline import Pipeline
from a2mim.registry import DATASETS


@DATASETS.register_module()
class ImageDataset(Dataset):
    """An image and the number of its class.

    Args:
        source: Config of an image source with labels.
        pipeline: Configs of transforms ``(image, rng) -> image``, applied in order.
        seed: Together with the sample's key it determines every random draw.

    Shape:
        image: (C, H, W), uint8.
        label: int64 once collated.

    Raises:
        ValueError: If the source has no labels, or an image cannot be read.
    """

    def __init__(self, source: dict, pipeline: list[dict], seed: int = 0) -> None:
        self.source = DATASETS.build(source)
        self.transform = Pipeline(pipeline)
        self.seed = seed
        if self.source.label(0) is None:
            raise ValueError(
                f'source {source} has no labels, which classification needs; '
                'use ImageFolder(with_labels=True) or a list file of lines "path label"'
            )
        self.metainfo = {'classes': self.source.classes}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, torch.Tensor | int]:
        key = SampleKey.of(key)
        image = self.transform(self.source.load(key.index), key.generator(self.seed))
        return {'image': image, 'label': self.source.label(key.index)}
