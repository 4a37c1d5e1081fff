"""Images in tar files of the WebDataset layout, for more of them than a folder can hold."""

import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mmengine.fileio import get_file_backend

from a2mim.datasets.decoding import IMAGE_SUFFIXES
from a2mim.datasets.image_files import ImageFolder, ImageList, StoredImages, read_list
from a2mim.registry import DATASETS

# [shard_index]
# Where each image lies in a folder of tar files, so that any of them can be read by its number.
#
# Axes: N images.


ENTRIES, SUMMARY = 'index.npy', 'index.json'
NO_LABEL = -1
ENTRY = np.dtype(
    [('shard', 'u4'), ('offset', 'u8'), ('size', 'u8'), ('suffix', 'S5'), ('label', 'i4')]
)
TOOL = 'python tools/prepare_data/index_shards.py'


def write_index(root: Path, classes: Sequence[str] | None = None) -> None:
    """Look through the tar files of a folder once and write their index beside them.

    Members with one name up to the first dot are one sample, as in WebDataset: an image and, if it
    has a label, its number under the ending ``.cls``. The order is that of the files.

    Args:
        root: The folder.
        classes: Names of the classes; without them, their numbers.

    Raises:
        FileNotFoundError: If there is no tar file.
        ValueError: If a file is damaged, compressed or without images, a sample has several images,
            or only some samples have a label.
    """
    shards = sorted(path.name for path in root.glob('*.tar'))
    if not shards:
        raise FileNotFoundError(f'{root} holds no tar file; give the folder of the shards')
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
    # Written last: with it, the index is complete.
    (root / SUMMARY).write_text(json.dumps(summary), encoding='utf-8')


def read_index(root: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """The entries (N,) of type ``ENTRY``, names of the shards, and names of the classes.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If a shard has another size than when the index was made.
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
                f'index the folder anew with {TOOL} {root}'
            )
    # Mapped, not read: all processes of a machine share one copy.
    entries = np.load(root / ENTRIES, mmap_mode='r', allow_pickle=False)
    return entries, summary['shards'], summary['classes']


def _entries(path: Path, shard: int) -> np.ndarray:
    """An ``ENTRY`` of each sample of a shard."""
    try:
        with tarfile.open(path, 'r:') as archive:  # the colon: no compression
            samples = groupby(filter(tarfile.TarInfo.isreg, archive), lambda info: _key(info.name))
            entries = [_entry(archive, list(members), path) for _, members in samples]
    except tarfile.TarError as error:
        raise ValueError(
            f'{path} is no intact tar file: {error}; write it anew, uncompressed'
        ) from error
    if not entries:
        raise ValueError(f'{path} holds no image; remove it')
    return np.array([(shard, *entry) for entry in entries], dtype=ENTRY)


def _entry(
    archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], path: Path
) -> tuple[int, int, str, int]:
    """Offset, size and ending of the image, and the label, of one sample."""
    images = [info for info in members if info.name.lower().endswith(IMAGE_SUFFIXES)]
    if len(images) != 1:
        raise ValueError(
            f'sample {_key(members[0].name)!r} of {path} has {len(images)} images; expected is '
            f'one, with one of these endings: {" ".join(IMAGE_SUFFIXES)}'
        )
    labels = [info for info in members if info.name.endswith('.cls')]
    text = archive.extractfile(labels[0]).read() if labels else b'%d' % NO_LABEL
    try:
        label = int(text)
    except ValueError as error:
        raise ValueError(
            f'{labels[0].name} of {path} holds {text[:20]!r}; expected is the number of a class'
        ) from error
    suffix = os.path.splitext(images[0].name)[1].lower()
    return images[0].offset_data, images[0].size, suffix, label


def _key(name: str) -> str:
    """The part that the members of a sample share."""
    folder, _, file = name.rpartition('/')
    return f'{folder}/{file.split(".", 1)[0]}'


def member_at(path: Path, offset: int) -> str:
    """Name of the member whose content begins at ``offset``, as the header before it has it.

    Of names beyond 100 characters tar may keep the end elsewhere; it is not looked for.
    """
    with open(path, 'rb') as file:
        file.seek(offset - tarfile.BLOCKSIZE)
        header = file.read(tarfile.BLOCKSIZE)
    return tarfile.TarInfo.frombuf(header, 'utf-8', 'surrogateescape').name


def shard_starts(entries: np.ndarray) -> np.ndarray:
    """Positions (S,) in ``entries`` at which another shard begins, the first one included."""
    return np.flatnonzero(np.diff(entries['shard'], prepend=-1))


MAX_OPEN = 32  # files


@DATASETS.register_module()
class WebShards(StoredImages):
    """Images in the tar files of a folder, read by number through an index.

    Neither the order of an epoch nor what is random in a sample differs from that of a folder, and
    a run resumes as exactly. ``ShardSampler`` keeps neighbouring reads in a few files. Only local
    files (or mounted ones) are read.

    Args:
        root: Folder of ``*.tar`` with the index that ``tools/prepare_data/make_shards.py`` or, for
            shards from elsewhere, ``tools/prepare_data/index_shards.py`` has written.
        channels: C; see ``read_image``.
        shrink_to: Faster, coarser decoding of large JPEG files; see ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the index is not that of these shards.

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
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # the one used last at the end

    def __getstate__(self) -> dict:
        """Open files do not travel to a process that is not forked."""
        return {**vars(self), '_files': OrderedDict()}

    @property
    def starts(self) -> list[int]:
        """The numbers of the images with which the shards begin."""
        return shard_starts(self.entries).tolist()

    def name(self, index: int) -> str:
        """``shard::member``."""
        entry = self.entries[index]
        path = os.path.join(self.root, self.shards[entry['shard']])
        return f'{path}::{member_at(Path(path), int(entry["offset"]))}'

    def suffix(self, index: int) -> str:
        """The ending of the member, in small letters."""
        return self.entries[index]['suffix'].decode()

    def content(self, index: int) -> bytes:
        """The bytes of the member."""
        entry = self.entries[index]
        size, offset = int(entry['size']), int(entry['offset'])
        # A position of its own for every read: forked processes share that of an open file.
        data = os.pread(self._file(int(entry['shard'])).fileno(), size, offset)
        if len(data) < size:
            raise OSError(f'the shard ends after {len(data)} of its {size} bytes')
        return data

    def _file(self, shard: int) -> BinaryIO:
        """A shard, open; the one not used for longest is closed."""
        if shard not in self._files:
            if len(self._files) == MAX_OPEN:
                self._files.popitem(last=False)[1].close()
            path = os.path.join(self.root, self.shards[shard])
            self._files[shard] = open(path, 'rb')  # noqa: SIM115 (it stays open)
        self._files.move_to_end(shard)
        return self._files[shard]


# [lmdb_images]
# Images in one LMDB database, for more of them than a folder can hold.


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


# [detect]
# Which kind of source a folder is, for tools that take any.


def open_source(root: str, list_file: str | None = None, *, channels: int = 3) -> StoredImages:
    """Indexed shards, an LMDB database with its keys, or files: those of a list or all.

    Args:
        root: The folder.
        list_file: Only these files below it.
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
