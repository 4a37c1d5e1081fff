"""Labelled images for classification.

Axes: C channels, (H, W) pixels.
"""

import torch
from torch.utils.data import Dataset

from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.substitute import find_loader
from a2mim.datasets.transforms.pipeline import Pipeline
from a2mim.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class ImageDataset(Dataset):
    """An image, the number of its class and, if wanted, a box to erase from the image.

    Args:
        source: Config of an image source with labels.
        pipeline: Configs of transforms ``(image, rng) -> image``, applied in order.
        erase: Config of a box, such as ``dict(type='RandomErasing', image_size=224, p=0.25)``.
        seed: Together with the sample's key it determines every random draw.
        on_bad_image: What follows from an image that cannot be read: 'raise' an error, or
            'substitute' another image and the label of that.

    Shape:
        image: (C, H, W), uint8.
        label: int64 once collated.
        erase: (4,), int64: top, left, height, width; only if ``erase`` is set.
        unreadable: int64 once collated: the index of an image that cannot be read, for which this
            one stands; -1 for none. Only if images are substituted.

    Raises:
        ValueError: If the source has no labels, the pipeline gives another size than ``erase``
            expects, or ``on_bad_image`` is unknown.
        BadDataError: If an image cannot be read and is not substituted.
    """

    def __init__(
        self,
        source: dict,
        pipeline: list[dict],
        erase: dict | None = None,
        seed: int = 0,
        *,
        on_bad_image: str = 'raise',
    ) -> None:
        self.source = DATASETS.build(source)
        self.transform = Pipeline(pipeline)
        self.erase = TRANSFORMS.build(erase) if erase else None
        self.seed = seed
        self.load = find_loader(on_bad_image)
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
        rng = key.generator(self.seed)
        # Drawn first, so that a box does not depend on the augmentations.
        box = {} if self.erase is None else {'erase': self.erase(rng)}
        image, index, note = self.load(self.source, key, self.seed)
        image = self.transform(image, rng)
        if self.erase is not None and tuple(image.shape[-2:]) != self.erase.image_size:
            raise ValueError(
                f'the pipeline gives images of {tuple(image.shape[-2:])} pixels but erase has '
                f'image_size={self.erase.image_size}; set it to the size of the crop'
            )
        return {'image': image, 'label': self.source.label(index), **box, **note}
