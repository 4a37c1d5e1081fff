"""Images in one LMDB database, for more of them than a folder can hold."""

import os

import numpy as np
from mmengine.fileio import get_file_backend

from a2mim.datasets.sources.image_list import read_list
from a2mim.datasets.sources.stored_images import StoredImages
from a2mim.registry import DATASETS

KEYS, CLASSES = 'keys.txt', 'classes.txt'


@DATASETS.register_module()
class LmdbImages(StoredImages):
    """Images under the keys that a list beside the database names, in the order of the list.

    Args:
        root: Folder of the database (``data.mdb``), with ``keys.txt``: one image a line, ``key`` or
            ``key label``, ASCII, the ending of a key being that of a file name. Classes are named
            by the lines of ``classes.txt`` if it is there, otherwise by number.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If the database or the list is missing.
        ImportError: If the package lmdb is missing.
        ValueError: If the list has no entry, or only some lines have a label.
    """

    def __init__(
        self,
        root: str,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        root = os.path.expanduser(root)
        for name in ('data.mdb', KEYS):
            if not os.path.isfile(os.path.join(root, name)):
                raise FileNotFoundError(
                    f'root={root!r} has no {name}; make a database with '
                    'tools/prepare_data/make_shards.py --format lmdb'
                )
        keys, labels = read_list(os.path.join(root, KEYS))
        classes = [str(label) for label in range(max(labels) + 1)] if labels else []
        if labels and os.path.isfile(os.path.join(root, CLASSES)):
            with open(os.path.join(root, CLASSES), 'rb') as file:
                classes = [os.fsdecode(line) for line in file.read().splitlines()]
        super().__init__(
            root,
            np.array([key.encode() for key in keys]),
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )
        self._backend()

    def name(self, index: int) -> str:
        """``folder::key``."""
        return f'{self.root}::{self.entries[index].decode()}'

    def content(self, index: int) -> bytes:
        """The value of a key."""
        data = self._backend().get(self.entries[index].decode())
        if data is None:
            raise OSError('the database has no such key')
        return data

    def _backend(self) -> object:
        """The one handle of this process, which opens the database when it is first read.

        A process may not open a database twice. Forked processes share the handle: read-only and
        without locks it holds nothing but a memory map.
        """
        arguments = dict(backend='lmdb', db_path=os.path.abspath(self.root))
        try:
            return get_file_backend(backend_args=arguments, enable_singleton=True)
        except ImportError as error:
            raise ImportError(
                f"{self.root!r} is an LMDB database; to read it, run pip install 'a2mim[shards]'"
            ) from error
