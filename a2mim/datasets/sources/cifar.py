"""CIFAR-10 and CIFAR-100.

Axes: (H, W) = 32 × 32 pixels.
"""

import os

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from torch import Tensor
from torchvision import datasets

from a2mim.datasets.sources.few_labels import spread_over_classes
from a2mim.registry import DATASETS


@DATASETS.register_module()
class CIFAR:
    """Small photographs of 10 or 100 classes, read by torchvision and kept in memory.

    Args:
        root: Folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.
        name: 'cifar10' or 'cifar100'.
        train: The 50,000 images for training, otherwise the 10,000 for testing.
        download: Fetch the data if they are not there.
        labels_per_class: Keep only so many images of each class.

    Raises:
        ValueError: If ``name`` is neither.
        FileNotFoundError: If the data are missing or damaged and ``download`` is not set.

    Reference:
        Krizhevsky, 2009 (https://www.cs.toronto.edu/~kriz/cifar.html).
    """

    def __init__(
        self,
        root: str,
        name: str = 'cifar10',
        train: bool = True,
        download: bool = False,
        *,
        labels_per_class: int | None = None,
    ) -> None:
        readers = {'cifar10': datasets.CIFAR10, 'cifar100': datasets.CIFAR100}
        if name not in readers:
            raise ValueError(f'name={name!r} must be one of {sorted(readers)}')
        data = _read(readers[name], os.path.expanduser(root), train, download)
        self.images, self.labels = data.data, np.array(data.targets)  # (N, H, W, 3), (N,)
        self.classes = tuple(data.classes)
        if labels_per_class is not None:
            kept = spread_over_classes(self.labels, labels_per_class)
            self.images, self.labels = self.images[kept], self.labels[kept]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> Tensor:
        """An image, (3, 32, 32), uint8; a view of the data."""
        return torch.from_numpy(self.images[index]).permute(2, 0, 1)

    def label(self, index: int) -> int:
        """Class of an image."""
        return int(self.labels[index])


def _read(
    reader: type[datasets.CIFAR10], root: str, train: bool, download: bool
) -> datasets.CIFAR10:
    if download:
        # One process a job fetches, the others find the result.
        if is_main_process():
            reader(root, train=train, download=True)
        barrier()
    try:
        return reader(root, train=train)
    except RuntimeError as error:
        raise FileNotFoundError(
            f'no intact {reader.__name__} in {os.path.join(root, reader.base_folder)!r}; '
            'point root at the folder that holds it, or set download=True to fetch it there'
        ) from error
