"""The data sets for pre-training and classification, and the collation of their samples.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.transforms import Pipeline
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS, FUNCTIONS, TRANSFORMS


class DrawnFirst(Dataset, ABC):
    """Base of data sets whose samples begin with draws that need no image.

    For a batch all of these come first, in a loop of their own: between two decoded images the code
    that seeds a generator has left the caches of the processor, and takes six times as long.

    Args:
        seed: Together with the sample's key it determines every random draw.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._drawn: dict[SampleKey, tuple[np.random.Generator, Tensor | None]] = {}

    @abstractmethod
    def first_draw(self, rng: np.random.Generator) -> Tensor | None:
        """What a sample draws before its image is augmented."""

    def draws(self, key: SampleKey) -> tuple[np.random.Generator, Tensor | None]:
        """The generator of a sample, and its first draw."""
        drawn = self._drawn.pop(key, None)
        if drawn is None:
            rng = key.generator(self.seed)
            drawn = rng, self.first_draw(rng)
        return drawn

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> list[dict]:
        """The samples of a batch; called by ``DataLoader``."""
        keys = [SampleKey.of(key) for key in keys]
        self._drawn = {}
        self._drawn = {key: self.draws(key) for key in keys}
        return [self[key] for key in keys]


@DATASETS.register_module()
class MaskedImageDataset(DrawnFirst):
    """An image and the mask of its blocks.

    The training device normalises and masks the image: a worker returns the values of the file and
    no second image.

    Args:
        source: Config of an image source.
        pipeline: Configs of transforms ``(image, rng) -> image``, applied in order.
        mask: Config of a mask, such as ``dict(type='PatchMask', image_size=224, block_size=32,
            ratio=0.6)``.
        seed: Together with the sample's key it determines every random draw.
        on_bad_image: 'raise' an error for an image that cannot be read, or 'substitute' another
            image, with its label if it has one.

    Shape:
        image: (C, H, W), in the type of its file.
        mask: (h, w), uint8, 1 where masked.
        label: int64 once collated, or (K,) uint8, 1 for each class of the image, if images have
            several; only if the source has labels.
        unreadable: int64 once collated: the index of the unreadable image that this one replaces,
            or -1. Only with ``on_bad_image='substitute'``.

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
        super().__init__(seed)
        self.mask = TRANSFORMS.build(mask)
        self.source = DATASETS.build(source)
        self.transform = Pipeline(pipeline)
        self.load = find_loader(on_bad_image)
        self.metainfo = {'classes': self.source.classes}

    def __len__(self) -> int:
        return len(self.source)

    def first_draw(self, rng: np.random.Generator) -> Tensor:
        """The mask, so that it does not depend on the augmentations."""
        return self.mask(rng)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Tensor | int]:
        key = SampleKey.of(key)
        rng, mask = self.draws(key)
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


@DATASETS.register_module()
class ImageDataset(DrawnFirst):
    """An image, its label and, with ``erase``, a box to erase from the image.

    Args:
        source: Config of an image source with labels.
        pipeline: Configs of transforms ``(image, rng) -> image``, applied in order.
        erase: Config of a box, such as ``dict(type='RandomErasing', image_size=224, p=0.25)``.
        seed: Together with the sample's key it determines every random draw.
        on_bad_image: 'raise' an error for an image that cannot be read, or 'substitute' another
            image with its label.

    Shape:
        image: (C, H, W), in the type of its file.
        label: int64 once collated, or (K,) uint8, 1 for each class of the image, if images have
            several.
        erase: (4,), int64: top, left, height, width; only if ``erase`` is set.
        unreadable: int64 once collated: the index of the unreadable image that this one replaces,
            or -1. Only with ``on_bad_image='substitute'``.

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
        super().__init__(seed)
        self.source = DATASETS.build(source)
        self.transform = Pipeline(pipeline)
        self.erase = TRANSFORMS.build(erase) if erase else None
        self.load = find_loader(on_bad_image)
        if self.source.label(0) is None:
            raise ValueError(
                f'source {source} has no labels, which classification needs; '
                'use ImageFolder(with_labels=True) or a list file of lines "path label"'
            )
        self.metainfo = {'classes': self.source.classes}

    def __len__(self) -> int:
        return len(self.source)

    def first_draw(self, rng: np.random.Generator) -> Tensor | None:
        """The box, if any, so that it does not depend on the augmentations."""
        return None if self.erase is None else self.erase(rng)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Tensor | int]:
        key = SampleKey.of(key)
        rng, drawn = self.draws(key)
        box = {} if drawn is None else {'erase': drawn}
        image, index, note = self.load(self.source, key, self.seed)
        image = self.transform(image, rng)
        if self.erase is not None and tuple(image.shape[-2:]) != self.erase.image_size:
            raise ValueError(
                f'the pipeline gives images of {tuple(image.shape[-2:])} pixels but erase has '
                f'image_size={self.erase.image_size}; set it to the size of the crop'
            )
        return {'image': image, 'label': self.source.label(index), **box, **note}


@FUNCTIONS.register_module()
def channels_last_collate(samples: list[dict]) -> dict[str, Tensor]:
    """Default collation, but with images in channels-last memory layout.

    Images leave the resize as (C, H, W) with strides (1, W·C, C): stacked as (C, H, W) each would
    be transposed, stacked as (H, W, C) it is one copy.

    Shape:
        samples: dicts with ``image`` (C, H, W), and other entries for default collation.
        returns: dict with ``image`` (B, C, H, W) in channels-last memory format.
    """
    images = of_one_type([sample['image'] for sample in samples])
    flipped = [
        {**sample, 'image': image.permute(1, 2, 0)}
        for sample, image in zip(samples, images, strict=True)
    ]
    batch = default_collate(flipped)
    batch['image'] = batch['image'].permute(0, 3, 1, 2)
    return batch


def of_one_type(images: list[Tensor]) -> list[Tensor]:
    """The images of a batch; where some are uint8 and some uint16, all of them as uint16.

    The range of uint8 becomes that of uint16: by ``scale='dtype'`` both give the same value.

    Raises:
        BadDataError: If other types are mixed.
    """
    names = {image.dtype for image in images}
    if len(names) == 1:
        return images
    if names != {torch.uint8, torch.uint16}:
        raise BadDataError(
            f'a batch mixes images of {" and ".join(sorted(map(str, names)))}; only uint8 and '
            'uint16 go together: write the files in one type, or name it as dtype of the source, '
            'which leaves the others out'
        )
    return [
        (image.to(torch.int32) * 257).to(torch.uint16) if image.dtype == torch.uint8 else image
        for image in images
    ]


NUM_TRIALS = 10  # if a tenth of the images is bad, all trials fail with probability 10^-10
STREAM = 1  # appended to the key: a random stream apart from that of the augmentations


class Source(Protocol):
    """The methods of an image source that loading needs."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Tensor:
        """An image, (C, H, W), in the type of its file."""
        ...


# From a source, a key and a seed to the image, its index, and further entries of the sample.
Loader = Callable[[Source, SampleKey, int], tuple[Tensor, int, dict[str, int]]]


def load_or_raise(source: Source, key: SampleKey, seed: int) -> tuple[Tensor, int, dict]:
    """Load the image of a key. For evaluation, where a substitute would change the score."""
    return source.load(key.index), key.index, {}


def load_or_substitute(source: Source, key: SampleKey, seed: int) -> tuple[Tensor, int, dict]:
    """Load the image of a key or, if it cannot be read, another one drawn from seed and key.

    Returns:
        The image, its index, and the entry ``unreadable`` of the sample: the index of the image
        that cannot be read, or -1.

    Raises:
        BadDataError: If the images drawn in its place cannot be read either.
    """
    try:
        return source.load(key.index), key.index, {'unreadable': -1}
    except BadDataError as error:
        for index in _others(len(source), key, seed):
            try:
                return source.load(index), index, {'unreadable': key.index}
            except BadDataError:
                continue
        raise BadDataError(
            f'{error}. The {NUM_TRIALS} images drawn in its place cannot be read either'
        ) from error


def _others(size: int, key: SampleKey, seed: int) -> Iterator[int]:
    """Indices of other images than that of ``key``, if there are any."""
    if size > 1:
        rng = np.random.default_rng((seed, key.epoch, key.index, key.repeat, STREAM))
        for draw in rng.integers(size - 1, size=NUM_TRIALS):
            yield int(draw) + int(draw >= key.index)


LOADERS = {'raise': load_or_raise, 'substitute': load_or_substitute}


def find_loader(on_bad_image: str) -> Loader:
    """The function of that name.

    Raises:
        ValueError: If there is none.
    """
    if on_bad_image not in LOADERS:
        raise ValueError(f'on_bad_image={on_bad_image!r} must be one of {sorted(LOADERS)}')
    return LOADERS[on_bad_image]
