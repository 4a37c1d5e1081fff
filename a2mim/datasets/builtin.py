"""Data sets that need no preparation: CIFAR-10 and -100, patches of photographs, and digits.

The photographs come with scikit-image, the digits with scikit-learn: nothing is downloaded.

Axes: N images, (H, W) pixels.
"""

import os
from importlib import resources
from itertools import product

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from PIL import Image
from torch import Tensor
from torchvision import datasets

from a2mim.datasets.image_files import draw_per_class
from a2mim.registry import DATASETS


@DATASETS.register_module()
class CIFAR:
    """CIFAR-10 or CIFAR-100 (32 × 32 pixels), read by torchvision and kept in memory.

    Args:
        root: Folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.
        name: 'cifar10' or 'cifar100'.
        train: The 50,000 training images, otherwise the 10,000 test images.
        download: Download the data if they are missing.
        labels_per_class, seed: See ``draw_per_class``.

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
        seed: int | None = None,
    ) -> None:
        readers = {'cifar10': datasets.CIFAR10, 'cifar100': datasets.CIFAR100}
        if name not in readers:
            raise ValueError(f'name={name!r} must be one of {sorted(readers)}')
        data = _read(readers[name], os.path.expanduser(root), train, download)
        self.images, self.labels = data.data, np.array(data.targets)  # (N, H, W, 3), (N,)
        self.classes = tuple(data.classes)
        if labels_per_class is not None:
            kept = draw_per_class(self.labels, labels_per_class, seed)
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
        # One process downloads, the others wait.
        if is_main_process():
            reader(root, train=train, download=True)
        barrier()
    try:
        return reader(root, train=train)
    except RuntimeError as error:
        raise FileNotFoundError(
            f'no intact {reader.__name__} in {os.path.join(root, reader.base_folder)!r}; '
            'set root to the folder that holds it, or download=True to download it there'
        ) from error


PHOTOS = (
    'astronaut.png', 'brick.png', 'camera.png', 'chelsea.png', 'coffee.png', 'coins.png',
    'grass.png', 'gravel.png', 'hubble_deep_field.jpg', 'ihc.png', 'moon.png',
    'motorcycle_left.png', 'retina.jpg', 'rocket.jpg',
)  # fmt: skip
REGION = 120
ROWS, COLUMNS = 4, 5
# Unused pixels at each side of a region. They separate the splits by more than the reach of the
# filter that resizes a photograph to its canvas.
MARGIN = 4


@DATASETS.register_module()
class PhotoPatches:
    """Square patches of 14 photographs of scikit-image; the label is the photograph.

    The central 5:4 part of each photograph is resized to 480 × 600 pixels and cut into 4 × 5
    regions of 120 pixels: 12 for training, and in each row one for validation and one for test, at
    other positions in the next photograph. Patches of different splits share no pixel, and all
    classes have the same number of patches.

    Args:
        split: 'train', 'val' or 'test'.
        patch_size: Side of a patch in pixels, at most 112.
        stride: Distance of neighbouring patches in a region, in pixels.
        labels_per_class, seed: See ``draw_per_class``; it spreads the patches over the regions.

    Raises:
        ValueError: If ``split`` is unknown or no patch fits.
        FileNotFoundError: If scikit-image came without its photographs.
    """

    def __init__(
        self,
        split: str = 'train',
        patch_size: int = 96,
        stride: int = 8,
        *,
        labels_per_class: int | None = None,
        seed: int | None = None,
    ) -> None:
        if split not in ('train', 'val', 'test'):
            raise ValueError(f"split={split!r} must be 'train', 'val' or 'test'")
        if not 1 <= patch_size <= REGION - 2 * MARGIN or stride < 1:
            raise ValueError(
                f'patch_size={patch_size} must lie in [1, {REGION - 2 * MARGIN}], '
                f'and stride={stride} must be at least 1'
            )
        self.classes = tuple(name.split('.')[0] for name in PHOTOS)
        self.patch_size = patch_size
        self.canvases = np.stack([_canvas(name) for name in PHOTOS])
        # (N, 3): photograph, top, left.
        self.patches = np.array(
            [
                (photo, *corner)
                for photo in range(len(PHOTOS))
                for corner in _corners(photo, split, patch_size, stride)
            ]
        )
        if labels_per_class is not None:
            kept = draw_per_class(self.patches[:, 0], labels_per_class, seed)
            self.patches = self.patches[kept]

    def __len__(self) -> int:
        return len(self.patches)

    def load(self, index: int) -> Tensor:
        """A patch, (3, patch_size, patch_size), uint8; a view of its photograph."""
        photo, top, left = self.patches[index]
        side = self.patch_size
        patch = self.canvases[photo, top : top + side, left : left + side]
        return torch.from_numpy(patch).permute(2, 0, 1)

    def label(self, index: int) -> int:
        """Number of the photograph."""
        return int(self.patches[index, 0])


def _canvas(name: str) -> np.ndarray:
    """The central 5:4 part of a photograph as RGB of the size of the canvas."""
    path = resources.files('skimage') / 'data' / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run pip install 'scikit-image>=0.22'")
    with path.open('rb') as file, Image.open(file, formats=('PNG', 'JPEG')) as photo:
        photo = photo.convert('RGB')
    height, width = ROWS * REGION, COLUMNS * REGION
    rows = min(photo.height, photo.width * height / width)
    columns = rows * width / height
    left, top = (photo.width - columns) / 2, (photo.height - rows) / 2
    box = (left, top, left + columns, top + rows)
    return np.array(photo.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _corners(photo: int, split: str, patch_size: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners of the patches of one photograph."""
    steps = range(MARGIN, REGION - MARGIN - patch_size + 1, stride)
    return [
        (row * REGION + top, column * REGION + left)
        for row, column in product(range(ROWS), range(COLUMNS))
        if _split_of(photo, row, column) == split
        for top, left in product(steps, steps)
    ]


def _split_of(photo: int, row: int, column: int) -> str:
    """One region of each row for validation and one for test, shifted by two per row."""
    return {0: 'val', 2: 'test'}.get((2 * row + column + photo) % COLUMNS, 'train')


TEST, VAL = 50, 30  # digits of each class


@DATASETS.register_module()
class Digits:
    """1,797 images of handwritten digits, 8 × 8 pixels of 17 grey levels, from scikit-learn.

    Of each class 50 are for test, evenly spaced in the order of the file, and 30 of the others for
    validation. ``train`` is all but the test images, 1,297: to pre-train on, without labels. With
    ``labels_per_class`` it leaves the 300 images of validation out, so that the labels that a
    network learns from, those that choose its learning rate and those that measure it are apart.

    Args:
        split: 'train', 'val' or 'test'.
        labels_per_class, seed: See ``draw_per_class``.

    Raises:
        ValueError: If ``split`` is unknown.

    Reference:
        Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository (https://doi.org/10.24432/C50P49), licence CC BY 4.0; of it, the test set.
    """

    classes = tuple('0123456789')

    def __init__(
        self,
        split: str = 'train',
        *,
        labels_per_class: int | None = None,
        seed: int | None = None,
    ) -> None:
        if split not in ('train', 'val', 'test'):
            raise ValueError(f"split={split!r} must be 'train', 'val' or 'test'")
        from sklearn.datasets import load_digits

        grey, labels = load_digits(return_X_y=True)
        test = _evenly(labels, TEST)
        val = np.zeros_like(test)
        val[~test] = _evenly(labels[~test], VAL)
        kept = np.flatnonzero({'train': ~test, 'val': val, 'test': test}[split])
        if labels_per_class is not None:
            kept = kept[~val[kept]] if split == 'train' else kept
            kept = kept[draw_per_class(labels[kept], labels_per_class, seed)]
        # From 0 … 16 to 0 … 255.
        self.images = np.rint(grey[kept] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        self.labels = labels[kept]  # (N,)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> Tensor:
        """An image, (3, 8, 8), uint8, its three channels equal; a view of the data."""
        return torch.from_numpy(self.images[index]).expand(3, -1, -1)

    def label(self, index: int) -> int:
        """The digit."""
        return int(self.labels[index])


def _evenly(labels: np.ndarray, number: int) -> np.ndarray:
    """(N,) bool: ``number`` images of each class, evenly spaced in their order."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        chosen[of_class[np.arange(number) * len(of_class) // number]] = True
    return chosen
