"""Images for a measurement: a seeded choice from a folder, or from installed photographs.

Axes: N images, C channels, (H, W) pixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from a2mim.datasets.archives import open_source
from a2mim.datasets.builtin import PhotoPatches
from a2mim.datasets.image_files import ImageFolder
from a2mim.inference import fit_image

PHOTOS = 'photos'
PHOTO_SIDE = 112  # pixels, the largest patch
PROBE_SIDE, PROBE_STRIDE = 96, 16  # pixels, of patches for probes
MOST = 2000  # images of a split of a folder


class AnalysisImages:
    """A seeded choice of ``number`` images, the same for every network.

    Args:
        where: ``'photos'``: test patches of scikit-image's photographs, labelled by photograph;
            or a folder of images, or of shards.
        number: N.
        seed: Of the choice.
        labelled: Take the folders in ``where`` as classes.

    Attributes:
        names: Of the images, for people.
        labels: (N,) int64; None without labels.
        classes: Names of the classes; empty without labels.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If there are fewer than ``number``, or no class folders.
    """

    labels: Tensor | None

    def __init__(self, where: str, number: int, seed: int = 0, *, labelled: bool = False) -> None:
        if where == PHOTOS:
            self._source = PhotoPatches('test', PHOTO_SIDE)
        elif labelled:
            self._source = ImageFolder(where, with_labels=True)
        else:
            self._source = open_source(where)
        if not 1 <= number <= len(self._source):
            raise ValueError(
                f'{number} images were asked for, {where} has {len(self._source)}; ask for 1 to '
                f'{len(self._source)}'
            )
        self._choose(number, seed, labelled=where == PHOTOS or labelled)

    def _choose(self, number: int, seed: int, *, labelled: bool) -> None:
        chosen = np.random.default_rng(seed).permutation(len(self._source))[:number]
        self._chosen = np.sort(chosen).tolist()
        self.classes = tuple(self._source.classes) if labelled else ()
        labels = [self._source.label(index) for index in self._chosen] if labelled else None
        self.labels = None if labels is None else torch.tensor(labels)
        self.names = [self._name(index) for index in self._chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def spans(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """Start and end of every batch."""
        if batch_size < 1:
            raise ValueError(f'--batch-size {batch_size} must be 1 or more')
        starts = range(0, len(self), batch_size)
        return ((start, min(start + batch_size, len(self))) for start in starts)

    def pixels(self, size: tuple[int, int], start: int = 0, stop: int | None = None) -> Tensor:
        """Load images ``start`` to ``stop`` as uint8 (N, 3, *size), resized and centre-cropped."""
        chosen = self._chosen[start:stop]
        return torch.stack([fit_image(self._source.load(index), size) for index in chosen])

    def _name(self, index: int) -> str:
        if isinstance(self._source, PhotoPatches):
            return f'{self._source.classes[self._source.label(index)]} {index}'
        return self._source.name(index)


class LabelledImages(AnalysisImages):
    """The images of a split, with labels.

    Args:
        where: ``'photos'``: patches of installed photographs; or a folder with a folder of class
            folders for each split.
        split: ``'train'`` or ``'val'``.
        labels_per_class: Training patches of each photograph.
        seed: Of the choice among more than ``MOST`` images of a folder.

    Raises:
        FileNotFoundError: If there are no images.
    """

    def __init__(self, where: str, split: str, labels_per_class: int, seed: int) -> None:
        if where == PHOTOS:
            part, few = ('train', labels_per_class) if split == 'train' else ('test', None)
            self._source = PhotoPatches(part, PROBE_SIDE, PROBE_STRIDE, labels_per_class=few)
        else:
            self._source = ImageFolder(str(Path(where) / split), with_labels=True)
        number = len(self._source) if where == PHOTOS else MOST
        self._choose(number, seed, labelled=True)

    def batches(self, size: tuple[int, int], number: int) -> Iterator[dict[str, Tensor]]:
        """``image``, uint8 (B, 3, *size), and ``label``, (B,)."""
        labels = cast(Tensor, self.labels)
        for start, stop in self.spans(number):
            yield dict(image=self.pixels(size, start, stop), label=labels[start:stop])
