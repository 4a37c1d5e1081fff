"""Small images as one tensor on the training device; crops, flips and masks of a whole batch.

A GPU that trains a small network on 32 pixels takes more images than workers can prepare one by
one. The draws have the distributions of ``RandomResizedCrop``, ``RandomFlip`` and ``PatchMask``.

Axes: N images, B batch, C channels, (H, W) pixels, (h, w) mask blocks, T trials.
"""

import json
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import Dataset, default_collate

from a2mim.datasets.datasets import find_loader
from a2mim.datasets.image_files import ImageFolder, draw_per_class
from a2mim.datasets.samplers import SampleKey
from a2mim.datasets.transforms import CROP_TRIALS, RandomResizedCrop, resize
from a2mim.masking import num_masked_patches
from a2mim.registry import DATASETS, FUNCTIONS, TRANSFORMS


@DATASETS.register_module()
class TensorImageDataset(Dataset):
    """Images of a source in memory; a loader without workers gets whole batches of it.

    The loader needs ``collate_fn=dict(type='a2mim.whole_batch')``. A batch is a function of the
    seed and of its first key, which no other batch of an epoch has.

    Args:
        source: Config of an image source.
        size: Side of all images, in pixels.
        crop: ``scale`` and ``ratio`` of ``RandomResizedCrop``; None for the whole image.
        flip: Probability of a horizontal flip.
        mask: Config of a ``PatchMask``; None for none.
        seed: Determines every random draw, together with the keys.
        on_bad_image: See ``ImageDataset``.

    Shape:
        image: (B, C, size, size), uint8.
        mask: (B, h, w), uint8, 1 where masked; only with ``mask``.
        label: (B,), int64; only if the source has labels.
    """

    def __init__(
        self,
        source: dict,
        size: int,
        crop: dict | None = None,
        flip: float = 0.0,
        mask: dict | None = None,
        seed: int = 0,
        *,
        on_bad_image: str = 'raise',
    ) -> None:
        self.source = DATASETS.build(source)
        text = json.dumps(source, sort_keys=True)
        self.images, self.labels = in_memory(text, size, on_bad_image, get_device())
        self.crop = None if crop is None else RandomResizedCrop(size=size, **crop)
        self.flip, self.seed = flip, seed
        self.mask = TRANSFORMS.build(mask) if mask else None
        self.metainfo = {'classes': self.source.classes}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Tensor]:
        """One sample, as a batch of one gives it."""
        return {name: value[0] for name, value in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> dict[str, Tensor]:
        """The batch of these keys."""
        whole = [SampleKey.of(key) for key in keys]
        device = self.images.device
        index = torch.tensor([key.index for key in whole]).to(device)
        first = (self.seed, whole[0].epoch, whole[0].index, whole[0].repeat)
        generator = torch.Generator(device)
        generator.manual_seed(int(np.random.SeedSequence(first).generate_state(1, np.uint64)[0]))
        batch = {}
        if self.mask is not None:
            batch['mask'] = draw_masks(len(index), self.mask.grid, self.mask.ratio, generator)
        image = self.images[index]
        if self.crop is not None or self.flip:
            size = (image.shape[2], image.shape[3])
            boxes = draw_boxes(len(index), size, self.crop, generator)
            flipped = torch.rand(len(index), generator=generator, device=device) < self.flip
            image = cut(image, boxes, flipped)
        batch['image'] = image
        if self.labels is not None:
            batch['label'] = self.labels[index]
        return batch


@FUNCTIONS.register_module()
def whole_batch(batch: dict[str, Tensor] | list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The collation of what is a batch already, or of samples, as the preflight loads them."""
    return batch if isinstance(batch, dict) else default_collate(batch)


@lru_cache(maxsize=4)
def in_memory(
    source: str, size: int, on_bad_image: str, device: str
) -> tuple[Tensor, Tensor | None]:
    """All images of a source, (N, C, size, size), and its labels (N,), on ``device``.

    Args:
        source: Its config as JSON; a process that trains run after run reads the files once.
        size: Side of the images.
        on_bad_image: See ``ImageDataset``.
        device: Name of the device.
    """
    built, load = DATASETS.build(json.loads(source)), find_loader(on_bad_image)
    images, labels = [], []
    for number in range(len(built)):
        image, index, _ = load(built, SampleKey(number), 0)
        if image.shape[-2:] != (size, size):
            image = resize(image, (size, size), 'bilinear')
        images.append(image)
        labels.append(built.label(index))
    known = None if labels[0] is None else torch.tensor(labels).to(device)
    return torch.stack(images).contiguous().to(device), known


def draw_masks(
    number: int, grid: tuple[int, int], ratio: float, generator: torch.Generator
) -> Tensor:
    """Masks (B, h, w), uint8, of ``ceil(ratio * h * w)`` blocks each, as of ``PatchMask``."""
    blocks, device = grid[0] * grid[1], generator.device
    order = torch.rand(number, blocks, generator=generator, device=device).argsort(1)
    masks = torch.zeros(number, blocks, dtype=torch.uint8, device=device)
    masks.scatter_(1, order[:, : num_masked_patches(grid, ratio)], 1)
    return masks.view(number, *grid)


def draw_boxes(
    number: int,
    size: tuple[int, int],
    crop: RandomResizedCrop | None,
    generator: torch.Generator,
) -> Tensor:
    """Boxes (B, 4), int64: top, left, rows and columns, as ``RandomResizedCrop`` draws them.

    Args:
        number: B.
        size: (H, W) of the images.
        crop: The transform; None for the whole image.
        generator: Of the batch.
    """
    height, width = size
    device = generator.device
    if crop is None:
        return torch.tensor([0, 0, height, width], device=device).expand(number, 4)
    draws = torch.rand(4, number, CROP_TRIALS, generator=generator, device=device)
    low, high = crop.scale
    area = height * width * (low + (high - low) * draws[0])  # (B, T)
    log_low, log_high = math.log(crop.ratio[0]), math.log(crop.ratio[1])
    ratio = torch.exp(log_low + (log_high - log_low) * draws[1])
    rows, columns = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
    fits = (rows > 0) & (rows <= height) & (columns > 0) & (columns <= width)
    top = (draws[2] * (height - rows + 1)).long()
    left = (draws[3] * (width - columns + 1)).long()
    boxes = torch.stack([top, left, rows, columns], dim=-1)  # (B, T, 4)
    first = fits.int().argmax(1)  # of the trials that fit
    chosen = boxes[torch.arange(number, device=device), first]
    central = torch.tensor(crop._largest_box(height, width), device=device)
    return torch.where(fits.any(1)[:, None], chosen, central)


def cut(image: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Cut a box out of each image, scale it to the image's size, and mirror some.

    A crop is never larger than its image, so that bilinear interpolation needs no antialiasing.

    Shape:
        image: (B, C, H, W), uint8.
        boxes: (B, 4): top, left, rows and columns.
        flipped: (B,), bool.
        returns: like ``image``.
    """
    height, width = image.shape[2:]
    top, left, rows, columns = boxes.to(torch.float32)[:, :, None].unbind(1)  # (B, 1) each
    y = places(height, rows, image.device) + top  # (B, H)
    x = places(width, columns, image.device)
    x = torch.where(flipped[:, None], x.flip(1), x) + left
    # From pixel centres 0 … H − 1 to −1 … 1.
    grid = torch.stack(
        [
            (2 * x / (width - 1) - 1)[:, None, :].expand(-1, height, -1),
            (2 * y / (height - 1) - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    found = grid_sample(image.float(), grid, mode='bilinear', align_corners=True)
    return found.round_().clamp_(0, 255).to(torch.uint8)


def places(length: int, extent: Tensor, device: torch.device) -> Tensor:
    """Where ``length`` pixels lie in a crop of ``extent`` (B, 1) pixels, within its centres."""
    steps = torch.arange(length, device=device, dtype=torch.float32) + 0.5
    return (steps * extent / length - 0.5).clamp(min=0).minimum(extent - 1)


@DATASETS.register_module()
class SplitImageFolder(ImageFolder):
    """Class folders of which every tenth image of each class is for validation.

    For data that come with a test set alone: settings are chosen on images that neither train nor
    test.

    Args:
        root: The folder.
        part: 'train' or 'val'.
        labels_per_class, seed: See ``draw_per_class``; drawn from the part.
        **options: See ``ImageFolder``.

    Raises:
        ValueError: If ``part`` is unknown.
    """

    def __init__(
        self,
        root: str,
        part: str,
        *,
        labels_per_class: int | None = None,
        seed: int | None = None,
        **options: object,
    ) -> None:
        if part not in ('train', 'val'):
            raise ValueError(f"part={part!r} must be 'train' or 'val'")
        super().__init__(root, with_labels=True, **options)  # pyright: ignore[reportArgumentType]
        labels = np.asarray(self.labels)
        held_out = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            held_out[np.flatnonzero(labels == label)[::10]] = True
        kept = np.flatnonzero(held_out == (part == 'val'))
        if labels_per_class is not None:
            kept = kept[draw_per_class(labels[kept], labels_per_class, seed)]
        self.entries, self.labels = self.entries[kept], labels[kept]
