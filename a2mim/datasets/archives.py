"""Image sources in archives: tar shards in WebDataset layout, read by an index, and LMDB.

Axes: N images, S shards.
"""

import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mmengine.fileio import get_file_backend

from a2mim.datasets.decoding import IMAGE_SUFFIXES
from a2mim.datasets.image_files import ImageFolder, ImageList, StoredImages, read_list
from a2mim.registry import DATASETS

# Files of an LMDB database: its keys and classes.
KEYS, CLASSES = 'keys.txt', 'classes.txt'
# Files of the index of tar shards.
ENTRIES, SUMMARY = 'index.npy', 'index.json'
NO_LABEL = -1
ENTRY = np.dtype(
    [('shard', 'u4'), ('offset', 'u8'), ('size', 'u8'), ('suffix', 'S5'), ('label', 'i4')]
)
TOOL = 'python tools/prepare_data/index_shards.py'
MAX_OPEN = 32  # shards that a process keeps open


def open_source(root: str, list_file: str | None = None, *, channels: int = 3) -> StoredImages:
    """Open a folder as indexed shards, as an LMDB database, or as image files.

    Args:
        root: The folder.
        list_file: Read only these files below it.
        channels: C; see ``read_image``.

    Raises:
        FileNotFoundError: If there are no images.
    """
    if list_file is not None:
        return ImageList(list_file, root, channels=channels)
    folder = Path(root).expanduser()
    if (folder / SUMMARY).is_file():
        return WebShards(root, channels=channels)
    if (folder / KEYS).is_file():
        return LmdbImages(root, channels=channels)
    return ImageFolder(root, channels=channels)


@DATASETS.register_module()
class WebShards(StoredImages):
    """Images in the tar files of a folder, with random access through an index.

    Sampling, augmentation and resuming are as with a folder. ``ShardSampler`` keeps neighbouring
    reads within a few files. The files must be local or mounted.

    Args:
        root: Folder of ``*.tar`` with an index, written by ``tools/prepare_data/make_shards.py``
            or, for existing shards, ``tools/prepare_data/index_shards.py``.
        channels, shrink_to: See ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the index is of other shards.

    Reference:
        Aizman et al., 2020 (https://arxiv.org/abs/2001.01858); https://github.com/webdataset.
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
        entries, self.shards, classes = read_index(Path(root))
        labels = None if entries['label'][0] == NO_LABEL else entries['label']
        super().__init__(
            root,
            entries,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # last used last

    def __getstate__(self) -> dict:
        """Leave out open files, which cannot be pickled for a spawned process."""
        return {**vars(self), '_files': OrderedDict()}

    @property
    def starts(self) -> list[int]:
        """The index of the first image of each shard."""
        return shard_starts(self.entries).tolist()

    def name(self, index: int) -> str:
        """``shard::member``."""
        entry = self.entries[index]
        path = os.path.join(self.root, self.shards[entry['shard']])
        return f'{path}::{member_at(Path(path), int(entry["offset"]))}'

    def suffix(self, index: int) -> str:
        """The suffix of the member, in lower case."""
        return self.entries[index]['suffix'].decode()

    def content(self, index: int) -> bytes:
        """The bytes of the member."""
        entry = self.entries[index]
        size, offset = int(entry['size']), int(entry['offset'])
        # pread, because forked processes share the position of an open file.
        data = os.pread(self._file(int(entry['shard'])).fileno(), size, offset)
        if len(data) < size:
            raise OSError(f'the shard ends after {len(data)} of its {size} bytes')
        return data

    def reopen(self) -> None:
        """Close all shards."""
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, shard: int) -> BinaryIO:
        """An open shard; of more than ``MAX_OPEN`` the least recently used is closed."""
        if shard not in self._files:
            if len(self._files) == MAX_OPEN:
                self._files.popitem(last=False)[1].close()
            path = os.path.join(self.root, self.shards[shard])
            self._files[shard] = open(path, 'rb')  # noqa: SIM115 (it stays open)
        self._files.move_to_end(shard)
        return self._files[shard]


@DATASETS.register_module()
class LmdbImages(StoredImages):
    """Images in an LMDB database, in the order of its list of keys.

    Args:
        root: Folder of the database (``data.mdb``), with ``keys.txt``: one ``key`` or ``key label``
            per line, ASCII, each key with an image suffix. Classes are named by the lines of
            ``classes.txt`` if it exists, otherwise by number.
        channels, shrink_to: See ``read_image``.
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

    def _backend(self) -> Any:
        """Mmengine's handle of the database, which is opened at the first read.

        A process must not open a database twice. Forked processes share the handle: it is read-only
        and without locks.
        """
        arguments = dict(backend='lmdb', db_path=os.path.abspath(self.root))
        try:
            return get_file_backend(backend_args=arguments, enable_singleton=True)
        except ImportError as error:
            raise ImportError(
                f"{self.root!r} is an LMDB database; to read it, run pip install 'a2mim[shards]'"
            ) from error


def write_index(root: Path, classes: Sequence[str] | None = None) -> None:
    """Index the tar files of a folder and write the index into it.

    Members with the same name up to the first dot are one sample, as in WebDataset: an image and,
    if it has a label, a member with the suffix ``.cls`` with its number. The order is that of the
    files.

    Args:
        root: The folder.
        classes: Names of the classes; None names them by number.

    Raises:
        FileNotFoundError: If there is no tar file.
        ValueError: If a file is damaged, compressed or without images, a sample has several images,
            or only some samples have a label.
    """
    shards = sorted(path.name for path in root.glob('*.tar'))
    if not shards:
        raise FileNotFoundError(f'{root} has no tar file; give the folder of the shards')
    entries = np.concatenate([_entries(root / name, n) for n, name in enumerate(shards)])
    labelled = int((entries['label'] != NO_LABEL).sum())
    if labelled not in (0, len(entries)):
        raise ValueError(f'{labelled} of {len(entries)} images in {root} have a label; all or none')
    numbers = range(entries['label'].max() + 1)
    summary = {
        'shards': shards,
        'bytes': [os.path.getsize(root / name) for name in shards],
        'classes': [str(number) for number in numbers] if classes is None else list(classes),
    }
    np.save(root / ENTRIES, entries)
    # Written last, because ``read_index`` looks for it.
    (root / SUMMARY).write_text(json.dumps(summary), encoding='utf-8')


def read_index(root: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """The entries (N,) of type ``ENTRY``, names of the shards, and names of the classes.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the size of a shard has changed since it was indexed.
    """
    if not (root / SUMMARY).is_file():
        raise FileNotFoundError(f'{root} has no {SUMMARY}; make it with {TOOL} {root}')
    summary = json.loads((root / SUMMARY).read_text(encoding='utf-8'))
    for name, size in zip(summary['shards'], summary['bytes'], strict=True):
        path = root / name
        now = path.stat().st_size if path.is_file() else 'no'
        if now != size:
            raise ValueError(
                f'{path} has {now} bytes, but had {size} when it was indexed; restore it, or '
                f'index the folder again with {TOOL} {root}'
            )
    # Memory-mapped: all processes of a machine share one copy.
    entries = np.load(root / ENTRIES, mmap_mode='r', allow_pickle=False)
    return entries, summary['shards'], summary['classes']


def _entries(path: Path, shard: int) -> np.ndarray:
    """An ``ENTRY`` for each sample of a shard."""
    try:
        with tarfile.open(path, 'r:') as archive:  # the colon: no compression
            samples = groupby(filter(tarfile.TarInfo.isreg, archive), lambda info: _key(info.name))
            entries = [_entry(archive, list(members), path) for _, members in samples]
    except tarfile.TarError as error:
        raise ValueError(
            f'{path} is not an intact tar file: {error}; write it again, uncompressed'
        ) from error
    if not entries:
        raise ValueError(f'{path} has no image; remove it')
    return np.array([(shard, *entry) for entry in entries], dtype=ENTRY)


def _entry(
    archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], path: Path
) -> tuple[int, int, str, int]:
    """Offset, size and suffix of the image, and the label, of one sample."""
    images = [info for info in members if info.name.lower().endswith(IMAGE_SUFFIXES)]
    if len(images) != 1:
        raise ValueError(
            f'sample {_key(members[0].name)!r} of {path} has {len(images)} images; expected is '
            f'one, with one of these suffixes: {" ".join(IMAGE_SUFFIXES)}'
        )
    labels = [info for info in members if info.name.endswith('.cls')]
    label = _label(archive, labels[0], path) if labels else NO_LABEL
    suffix = os.path.splitext(images[0].name)[1].lower()
    return images[0].offset_data, images[0].size, suffix, label


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    """The number that a member ``.cls`` holds."""
    file = archive.extractfile(member)
    text = b'' if file is None else file.read()
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(
            f'{member.name} of {path} holds {text[:20]!r}; expected is the number of a class'
        ) from error


def _key(name: str) -> str:
    """The part of a name that the members of a sample share."""
    folder, _, file = name.rpartition('/')
    return f'{folder}/{file.split(".", 1)[0]}'


def member_at(path: Path, offset: int) -> str:
    """Name of the member whose content begins at ``offset``, from the header before it.

    Names beyond 100 characters may be incomplete.
    """
    with open(path, 'rb') as file:
        file.seek(offset - tarfile.BLOCKSIZE)
        header = file.read(tarfile.BLOCKSIZE)
    return tarfile.TarInfo.frombuf(header, 'utf-8', 'surrogateescape').name


def shard_starts(entries: np.ndarray) -> np.ndarray:
    """Indices (S,) of the first entry of each shard."""
    return np.flatnonzero(np.diff(entries['shard'], prepend=-1))
