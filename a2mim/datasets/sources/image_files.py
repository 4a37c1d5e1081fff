"""Images that lie in files: what folders and lists have in common.

Axes: C channels, (H, W) pixels.
"""

import os
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from a2mim.datasets.reading import read_image
from a2mim.datasets.sources.few_labels import spread_over_classes
from a2mim.errors import BadDataError


class ImageFiles:
    """Files below a folder, with or without labels.

    Args:
        root: The folder.
        paths: Paths below ``root``, at least one.
        labels: One class per path, or None.
        classes: Names of the classes, empty without labels.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        ValueError: If ``labels_per_class`` is set without labels.
    """

    def __init__(
        self,
        root: str,
        paths: Sequence[str],
        labels: Sequence[int] | None,
        classes: Sequence[str],
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        self.root = root
        # One array instead of a million strings: worker processes share it without copying.
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.labels = None if labels is None else np.array(labels, dtype=np.int64)
        self.classes = tuple(classes)
        self.channels = channels
        self.shrink_to = shrink_to
        if labels_per_class is not None:
            if self.labels is None:
                raise ValueError(
                    f'labels_per_class={labels_per_class} needs labels, and {root!r} is read '
                    'without; use ImageFolder(with_labels=True) or a list of lines "path label"'
                )
            kept = spread_over_classes(self.labels, labels_per_class)
            self.paths, self.labels = self.paths[kept], self.labels[kept]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Tensor:
        """Read an image, (C, H, W), uint8.

        Raises:
            BadDataError: If the file cannot be read; the message names it and the index.
        """
        try:
            return read_image(self.name(index), self.channels, shrink_to=self.shrink_to)
        except BadDataError as error:
            raise BadDataError(
                f'image {index} of {self.root!r}: {error}; repair the file or remove it '
                '(tools/prepare_data/verify_dataset.py finds all such files)'
            ) from error

    def name(self, index: int) -> str:
        """Path of an image; bytes that are no UTF-8 stand in it as ``os.fsdecode`` gives them."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))

    def label(self, index: int) -> int | None:
        """Class of an image, None without labels."""
        return None if self.labels is None else int(self.labels[index])
