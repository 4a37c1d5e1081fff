"""Images with labels to fit a probe, and others to judge it.

Axes: B images, (H, W) pixels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.images import PHOTOS
from a2mim.datasets.builtin import PhotoPatches
from a2mim.datasets.image_files import ImageFolder
from a2mim.inference import fit_image

PATCH, STRIDE = 96, 16  # pixels
MOST = 2000  # images of a split of a folder


class LabelledImages:
    """Some images of a split, with labels.

    Args:
        where: ``'photos'``: patches of installed photographs, or a folder of class folders.
        split: ``'train'`` or ``'val'``.
        labels_per_class: Patches of each photograph for training.
        seed: Of the choice among more than ``MOST`` images of a folder.

    Raises:
        FileNotFoundError: If there are no images.
    """

    def __init__(self, where: str, split: str, labels_per_class: int, seed: int) -> None:
        if where == PHOTOS:
            part = {'train': 'train', 'val': 'test'}[split]
            few = labels_per_class if split == 'train' else None
            self._source = PhotoPatches(part, PATCH, STRIDE, labels_per_class=few)
        else:
            self._source = ImageFolder(str(Path(where) / split), with_labels=True)
        order = np.random.default_rng(seed).permutation(len(self._source))
        self._chosen = np.sort(order[:MOST] if where != PHOTOS else order).tolist()
        self.classes = tuple(self._source.classes)

    def __len__(self) -> int:
        return len(self._chosen)

    def batches(self, size: tuple[int, int], number: int) -> Iterator[dict[str, Tensor]]:
        """``image``, uint8 (B, 3, *size), and ``label``, (B,)."""
        for start in range(0, len(self), number):
            chosen = self._chosen[start : start + number]
            yield dict(
                image=torch.stack([fit_image(self._source.load(index), size) for index in chosen]),
                label=torch.tensor([self._source.label(index) for index in chosen]),
            )
