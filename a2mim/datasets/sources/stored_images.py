"""Encoded images that lie somewhere: what files, tar shards and databases have in common.

Axes: C channels, (H, W) pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from a2mim.datasets.decoding import decode_image
from a2mim.datasets.reading import refusal, suffix_of
from a2mim.datasets.sources.few_labels import spread_over_classes
from a2mim.errors import BadDataError


class StoredImages(ABC):
    """Images that are read as bytes and decoded, with or without labels.

    Args:
        root: The folder that holds them.
        entries: (N,), where each image lies below ``root``, in the words of the subclass. One
            array instead of a million objects: worker processes share it without copying.
        labels: One class per image, or None.
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
        entries: np.ndarray,
        labels: Sequence[int] | np.ndarray | None,
        classes: Sequence[str],
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        self.root = root
        self.entries = entries
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
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
            self.entries, self.labels = self.entries[kept], self.labels[kept]

    def __len__(self) -> int:
        return len(self.entries)

    @abstractmethod
    def name(self, index: int) -> str:
        """What an image is called: a path, or ``file::member``."""

    def suffix(self, index: int) -> str:
        """The ending of that, in small letters."""
        return suffix_of(self.name(index))

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            OSError: If there are none to be had.
        """

    def load(self, index: int) -> Tensor:
        """Read an image, (C, H, W), uint8.

        Raises:
            BadDataError: If it cannot be read; the message names it and the index.
        """
        try:
            data = self.content(index)
            return decode_image(data, self.suffix(index), self.channels, self.shrink_to)
        except (OSError, BadDataError) as error:
            raise BadDataError(
                f'image {index} of {self.root!r}: '
                f'{refusal(error, self.name(index), self.channels)}; repair the file or remove it '
                '(tools/prepare_data/verify_dataset.py finds all such files)'
            ) from error

    def label(self, index: int) -> int | None:
        """Class of an image, None without labels."""
        return None if self.labels is None else int(self.labels[index])
