"""Images that lie in files: what folders and lists have in common."""

import os
from collections.abc import Sequence

import numpy as np

from a2mim.datasets.reading import read_file
from a2mim.datasets.sources.stored_images import StoredImages


class ImageFiles(StoredImages):
    """Files below a folder, with or without labels.

    Args:
        root: The folder.
        paths: Paths below ``root``, at least one.
        labels: One class per path, or None.
        classes: Names of the classes, empty without labels.
        **options: See ``StoredImages``.
    """

    def __init__(
        self,
        root: str,
        paths: Sequence[str],
        labels: Sequence[int] | None,
        classes: Sequence[str],
        **options: int | None,
    ) -> None:
        entries = np.array([os.fsencode(path) for path in paths])
        super().__init__(root, entries, labels, classes, **options)

    def name(self, index: int) -> str:
        """Path of an image; bytes that are no UTF-8 stand in it as ``os.fsdecode`` gives them."""
        return os.path.join(self.root, os.fsdecode(self.entries[index]))

    def content(self, index: int) -> bytes:
        """All bytes of the file."""
        return read_file(self.name(index), self.channels)
