"""Images with a block mask, for pre-training.

Axes: C channels, (H, W) pixels, (h, w) mask blocks.
"""

import torch
from torch.utils.data import Dataset

from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.substitute import find_loader
from a2mim.datasets.transforms.pipeline import Pipeline
from a2mim.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class MaskedImageDataset(Dataset):
    """An image as bytes and the blocks of it to hide.

    Normalising and hiding are left to the device that trains: a worker then hands over one byte
    per value and no second image.

    Args:
        source: Config of an image source.
        pipeline: Configs of transforms ``(image, rng) -> image``, applied in order.
        mask: Config of a mask, such as ``dict(type='BlockMask', image_size=224, block_size=32,
            ratio=0.6)``.
        seed: Together with the sample's key it determines every random draw.
        on_bad_image: What follows from an image that cannot be read: 'raise' an error, or
            'substitute' another image, with its label if it has one.

    Shape:
        image: (C, H, W), uint8.
        mask: (h, w), uint8, 1 where hidden.
        label: int64 once collated; only if the source has labels.
        unreadable: int64 once collated: the index of an image that cannot be read, for which this
            one stands; -1 for none. Only if images are substituted.

    Raises:
        ValueError: If the blocks do not tile the image, the pipeline gives another size than the
            mask expects, or ``on_bad_image`` is unknown.
        BadDataError: If an image cannot be read and is not substituted.
    """

    def __init__(
        self,
        source: dict,
        pipeline: list[dict],
        mask: dict,
        seed: int = 0,
        *,
        on_bad_image: str = 'raise',
    ) -> None:
        self.mask = TRANSFORMS.build(mask)
        self.source = DATASETS.build(source)
        self.transform = Pipeline(pipeline)
        self.seed = seed
        self.load = find_loader(on_bad_image)
        self.metainfo = {'classes': self.source.classes}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, torch.Tensor | int]:
        key = SampleKey.of(key)
        rng = key.generator(self.seed)
        # Drawn first, so that a mask does not depend on the augmentations.
        mask = self.mask(rng)
        image, index, note = self.load(self.source, key, self.seed)
        image = self.transform(image, rng)
        if tuple(image.shape[-2:]) != self.mask.image_size:
            raise ValueError(
                f'the pipeline gives images of {tuple(image.shape[-2:])} pixels but the mask has '
                f'image_size={self.mask.image_size}; crop or resize to the size of the mask'
            )
        sample = {'image': image, 'mask': mask, **note}
        label = self.source.label(index)
        if label is not None:
            sample['label'] = label
        return sample
