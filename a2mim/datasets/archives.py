"""Image sources in archives: tar shards in WebDataset layout, read by an index, and LMDB.

Axes: N images, S shards.
"""

import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from a2mim.datasets.decoding import IMAGE_SUFFIXES
from a2mim.datasets.image_files import ImageFolder, ImageList, StoredImages
from a2mim.datasets.list_files import (
    NO_LABEL,
    class_number,
    encoded,
    log_once,
    numbered_classes,
    read_list,
)
from a2mim.registry import DATASETS

# Files of an LMDB database: its keys and classes.
KEYS, CLASSES = 'keys.txt', 'classes.txt'
# Files of the index of tar shards.
ENTRIES, SUMMARY = 'index.npy', 'index.json'
ENTRY = np.dtype(
    [('shard', 'u4'), ('offset', 'u8'), ('size', 'u8'), ('suffix', 'S5'), ('label', 'i4')]
)
TOOL = 'python tools/prepare_data/index_shards.py'
MAX_OPEN = 32  # shards that a process keeps open
LONGEST_KEY = 511  # bytes of an LMDB key
COMPRESSED = ('.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.tar.zst')
# Members with a label, the first one counts; entries of a .json that may hold it.
LABELS, JSON_LABELS = ('.cls', '.json', '.txt'), ('label', 'cls', 'class')
MAX_NOTE = 2**20  # bytes of a member that may hold a label
CHUNK = 2**20  # bytes read at a time


def open_source(
    root: str, list_file: str | None = None, *, channels: int = 3, **options: Any
) -> StoredImages:
    """Open a folder as indexed shards, as an LMDB database, or as image files.

    Args:
        root: The folder.
        list_file: Read only these files below it.
        channels: C; see ``read_image``.
        **options: See ``StoredImages``.

    Raises:
        FileNotFoundError: If there are no images.
    """
    if list_file is not None:
        return ImageList(list_file, root, channels=channels, **options)
    folder = Path(root).expanduser()
    if (folder / SUMMARY).is_file():
        return WebShards(root, channels=channels, **options)
    if (folder / KEYS).is_file():
        return LmdbImages(root, channels=channels, **options)
    return ImageFolder(root, channels=channels, **options)


@DATASETS.register_module()
class WebShards(StoredImages):
    """Images in the tar files of a folder, with random access through an index.

    Sampling, augmentation and resuming are as with a folder. ``ShardSampler`` keeps neighbouring
    reads within a few files. The files must be local or mounted.

    Args:
        root: Folder of ``*.tar`` with an index, written by ``tools/prepare_data/make_shards.py``
            or, for existing shards, ``tools/prepare_data/index_shards.py``.
        channels, shrink_to: See ``read_image``.
        labels_per_class: See ``draw_per_class``.
        **options: See ``StoredImages``.

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
        **options: Any,
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
            **options,
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
        """``shard::member``; the offset in place of a name that cannot be read."""
        entry = self.entries[index]
        path = os.path.join(self.root, self.shards[entry['shard']])
        offset = int(entry['offset'])
        try:
            return f'{path}::{member_at(Path(path), offset)}'
        except (OSError, tarfile.TarError, ValueError):
            return f'{path}::the member at byte {offset}'

    def suffix(self, index: int) -> str:
        """The suffix of the member, in lower case."""
        return self.entries[index]['suffix'].decode(errors='replace')

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
        root: Folder of the database (``data.mdb``), with ``keys.txt``, a list as in ``read_list``
            with keys in place of paths, each with an image suffix. Classes are named by the lines
            of ``classes.txt`` if it exists, otherwise by number.
        channels, shrink_to: See ``read_image``.
        labels_per_class: See ``draw_per_class``.
        **options: See ``StoredImages``.

    Raises:
        FileNotFoundError: If the database or the list is missing.
        ImportError: If the package lmdb is missing.
        ValueError: If the database is cut off or damaged at its start, a label has no class in
            ``classes.txt``, or ``read_list`` refuses the keys.
    """

    def __init__(
        self,
        root: str,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
        **options: Any,
    ) -> None:
        root = os.path.expanduser(root)
        for name in ('data.mdb', KEYS):
            if not os.path.isfile(os.path.join(root, name)):
                raise FileNotFoundError(
                    f'root={root!r} has no {name}; make a database with '
                    'tools/prepare_data/make_shards.py --format lmdb'
                )
        keys, labels = read_list(os.path.join(root, KEYS))
        super().__init__(
            root,
            encoded(keys, LONGEST_KEY),
            labels,
            _lmdb_classes(root, labels),
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
            **options,
        )
        self.file = os.path.join(root, 'data.mdb')
        _open_database(os.path.abspath(root))

    def name(self, index: int) -> str:
        """``folder::key``."""
        return f'{self.root}::{os.fsdecode(self.entries[index])}'

    def content(self, index: int) -> bytes:
        """The value of a key."""
        import lmdb

        database, size = _open_database(os.path.abspath(self.root))
        # Reading a mapped page behind the end of its file would kill the process.
        now = os.path.getsize(self.file)
        if now < size:
            raise OSError(f'{self.file} ends after {now} of its {size} bytes')
        try:
            with database.begin() as transaction:
                data = transaction.get(bytes(self.entries[index]))
        except lmdb.Error as error:
            raise OSError(str(error)) from error
        if data is None:
            raise OSError('the database has no such key')
        return data


def _lmdb_classes(root: str, labels: np.ndarray | None) -> list[str]:
    """Names of the classes of a database, by ``classes.txt`` or by number."""
    path = os.path.join(root, CLASSES)
    if labels is None or not os.path.isfile(path):
        return numbered_classes(labels, os.path.join(root, KEYS))
    with open(path, 'rb') as file:
        classes = [os.fsdecode(line) for line in file.read().splitlines()]
    if labels.max() >= len(classes):
        raise ValueError(
            f'{os.path.join(root, KEYS)} has the label {labels.max()}, but {path} has '
            f'{len(classes)} classes; write one name per line, or remove the file'
        )
    return classes


@cache
def _open_database(root: str) -> tuple[Any, int]:
    """A database and the bytes that its file must have.

    A process must not open a database twice. Forked processes share the handle: it is read-only and
    without locks.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ImportError(
            f"{root!r} is an LMDB database; to read it, run pip install 'a2mim[shards]'"
        ) from error
    remedy = 'copy it again, or make it with tools/prepare_data/make_shards.py --format lmdb'
    try:
        database = lmdb.open(root, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f'{root} holds no intact LMDB database: {error}; {remedy}') from error
    size = (database.info()['last_pgno'] + 1) * database.stat()['psize']
    there = os.path.getsize(os.path.join(root, 'data.mdb'))
    if there < size:
        database.close()
        raise ValueError(
            f'{root}/data.mdb is cut off: it has {there} bytes, and its pages take {size}; {remedy}'
        )
    return database, size


def write_index(root: Path, classes: Sequence[str] | None = None) -> None:
    """Index the tar files of a folder and write the index into it.

    Members with the same name up to the first dot are one sample, as in WebDataset: an image and,
    if it has a label, a member ``.cls`` with its number, or a ``.json`` or ``.txt`` that holds it.
    In a name such as ``frame_1.50.jpg`` the part between the dots belongs to the sample. The order
    is that of the files.

    Args:
        root: The folder.
        classes: Names of the classes; None names them by number.

    Raises:
        FileNotFoundError: If there is no tar file.
        ValueError: If a file is no tar file, compressed or without images, a sample has several
            images, a label is not the number of a class, or only some samples have a label.
    """
    shards = sorted(path.name for path in root.glob('*.tar'))
    packed = [path.name for path in root.iterdir() if path.name.endswith(COMPRESSED)]
    packed = sorted(name for name in packed if f'{name.split(".", 1)[0]}.tar' not in shards)
    if packed:
        raise ValueError(
            f'{root} has {len(packed)} compressed shards, such as {packed[0]}; images in them '
            'cannot be read one by one: decompress them (gunzip), or move them elsewhere'
        )
    if not shards:
        raise FileNotFoundError(f'{root} has no tar file; give the folder of the shards')
    parts = [_entries(root / name, number) for number, name in enumerate(shards)]
    entries = np.concatenate([entries for entries, _ in parts])
    _settle_labels(entries, {suffix for _, found in parts for suffix in found}, root)
    if classes is None:
        labels = None if entries['label'][0] == NO_LABEL else entries['label']
        classes = numbered_classes(labels, str(root))
    summary = {
        'shards': shards,
        'bytes': [os.path.getsize(root / name) for name in shards],
        'classes': list(classes),
    }
    np.save(root / ENTRIES, entries)
    # Written last, because ``read_index`` looks for it.
    (root / SUMMARY).write_text(json.dumps(summary), encoding='utf-8')


def _settle_labels(entries: np.ndarray, suffixes: set[str], root: Path) -> None:
    """Refuse labels of some images only; drop those of texts, which may be captions."""
    labelled = int((entries['label'] != NO_LABEL).sum())
    if labelled == len(entries):
        return
    found = f'{labelled} of {len(entries)} images in {root} have a label'
    if '.cls' in suffixes:
        raise ValueError(f'{found}; all or none')
    if suffixes:
        log_once(
            f'{found} in {" or ".join(sorted(suffixes))}: a whole number, in .json under '
            f'{" or ".join(JSON_LABELS)}. The index has no labels'
        )
    entries['label'] = NO_LABEL


def read_index(root: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """The entries (N,) of type ``ENTRY``, names of the shards, and names of the classes.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the size of a shard has changed since it was indexed, or the index is damaged
            or names files outside the folder.
    """
    if not (root / SUMMARY).is_file():
        raise FileNotFoundError(f'{root} has no {SUMMARY}; make it with {TOOL} {root}')
    shards, sizes, classes = _read_summary(root)
    for name, size in zip(shards, sizes, strict=True):
        path = root / name
        now = path.stat().st_size if path.is_file() else 'no'
        if now != size:
            raise ValueError(
                f'{path} has {now} bytes, but had {size} when it was indexed; restore it, or '
                f'index the folder again with {TOOL} {root}'
            )
    try:
        # Memory-mapped: all processes of a machine share one copy.
        entries = np.load(root / ENTRIES, mmap_mode='r', allow_pickle=False)
        fits = entries.dtype == ENTRY and entries.ndim == 1 and entries.size > 0
    except Exception as error:  # as decoders, it raises errors of any type on damaged files
        raise _damaged(root / ENTRIES, str(error)) from error
    if not fits:
        raise _damaged(root / ENTRIES, f'shape {entries.shape} of {str(entries.dtype)[:60]}')
    if (entries['shard'] >= len(shards)).any():
        raise _damaged(root / ENTRIES, f'an image in shard {entries["shard"].max()}')
    ends = np.array(sizes, dtype=np.uint64)[entries['shard']]
    start, size = entries['offset'], entries['size']
    if (start < tarfile.BLOCKSIZE).any() or (start > ends).any() or (size > ends - start).any():
        raise _damaged(root / ENTRIES, 'an image outside its shard')
    labels = entries['label']
    if labels.min() < NO_LABEL or (labels[0] != NO_LABEL and labels.max() >= len(classes)):
        raise _damaged(root / ENTRIES, f'labels from {labels.min()} to {labels.max()}')
    return entries, shards, classes


def _read_summary(root: Path) -> tuple[list[str], list[int], list[str]]:
    """Names and bytes of the shards, and names of the classes."""
    path = root / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding='utf-8'))
        shards, sizes, classes = (summary[key] for key in ('shards', 'bytes', 'classes'))
        typed = len(shards) == len(sizes) > 0 and all(
            isinstance(values, list) and all(type(value) is kind for value in values)
            for values, kind in ((shards, str), (sizes, int), (classes, str))
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f'{type(error).__name__}: {error}') from error
    if not typed or not all(0 <= size < 2**63 for size in sizes):
        raise _damaged(path, 'values of other types than names and sizes')
    for name in shards:
        if name != os.path.basename(name) or name in ('', os.curdir, os.pardir):
            raise ValueError(
                f'{path} names the shard {name!r}, outside its folder; index the folder again with '
                f'{TOOL} {root}'
            )
    return shards, sizes, classes


def _damaged(path: Path, found: str) -> ValueError:
    return ValueError(
        f'{path} is no index of these shards ({found[:120]}); index the folder again with {TOOL} '
        f'{path.parent}'
    )


def _entries(path: Path, shard: int) -> tuple[np.ndarray, set[str]]:
    """An ``ENTRY`` for each sample of a shard, and the suffixes of the members with labels."""
    damaged = f'{path} is not an intact tar file: {{}}; write it again, uncompressed'
    try:
        # The colon: no compression. The members behind a damaged header are found too.
        with tarfile.open(path, 'r:', ignore_zeros=True) as archive:
            members = _whole_members(archive, path)
            groups = groupby(filter(tarfile.TarInfo.isreg, members), lambda m: _key(m.name))
            samples = _samples([list(group) for _, group in groups])
            entries = [_entry(archive, sample, path) for sample in samples]
    except tarfile.TarError as error:
        raise ValueError(damaged.format(error)) from error
    if not members and not _only_zeros(path, 0, os.path.getsize(path)):
        raise ValueError(damaged.format('no header of a member'))
    if not entries:
        raise ValueError(f'{path} has no image; remove it')
    rows = [(shard, *entry[:4]) for entry in entries]
    return np.array(rows, dtype=ENTRY), {entry[4] for entry in entries if entry[4]}


def _whole_members(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    """The members whose content is there; a warning counts the bytes that are of none."""
    size, found = os.path.getsize(path), []
    with suppress(tarfile.ReadError):  # the file ends within the last one
        found.extend(archive)
    members = [member for member in found if member.offset_data + member.size <= size]
    end, lost = 0, []
    for start, after in [*((m.offset, _end(m)) for m in members), (size, size)]:
        if start > end and not _only_zeros(path, end, start):
            lost.append((end, start))
        end = after
    if members and lost:
        log_once(
            f'{path}: {sum(after - start for start, after in lost)} of {size} bytes, the first at '
            f'{lost[0][0]}, are of no whole member. The file is damaged or cut off; what images '
            'were there are left out: write it again'
        )
    return members


def _end(member: tarfile.TarInfo) -> int:
    """First byte after the content of a member, which is filled up to whole blocks."""
    return member.offset_data + ceil(member.size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _only_zeros(path: Path, start: int, end: int) -> bool:
    """Whether bytes are those that follow the last member of an archive."""
    with path.open('rb') as file:
        file.seek(start)
        for position in range(start, end, CHUNK):
            chunk = file.read(min(CHUNK, end - position))
            if chunk.count(0) < len(chunk):
                return False
    return True


def _samples(groups: list[list[tarfile.TarInfo]]) -> list[list[tarfile.TarInfo]]:
    """Members of each sample, from neighbours with the same name up to the first dot.

    A group is split where its names have further dots, and one without an image, such as a label
    after all images, joins the only image of its name.
    """
    groups = [part for group in groups for part in _split_at_dots(group)]
    samples = [group for group in groups if any(map(_is_image, group))]
    by_stem, by_key = {}, {}
    for sample in samples:
        for member in filter(_is_image, sample):
            by_stem.setdefault(os.path.splitext(member.name)[0], []).append(sample)
        by_key.setdefault(_key(sample[0].name), []).append(sample)
    for group in groups:
        if any(map(_is_image, group)):
            continue
        lost = []
        for member in group:
            owners = by_stem.get(os.path.splitext(member.name)[0]) or by_key.get(_key(member.name))
            (owners[0] if owners and len(owners) == 1 else lost).append(member)
        if lost:
            samples.append(lost)
    return samples


def _split_at_dots(group: list[tarfile.TarInfo]) -> list[list[tarfile.TarInfo]]:
    """Split samples such as ``a_1.50.jpg`` and ``a_1.75.jpg``, but no ``a.left.jpg``."""
    if sum(map(_is_image, group)) < 2:
        return [group]
    parts: dict[str, list[tarfile.TarInfo]] = {}
    for member in group:
        parts.setdefault(os.path.splitext(member.name)[0], []).append(member)
    middles = [os.path.basename(stem).partition('.')[2] for stem in parts]
    numbered = all(any(map(str.isdecimal, middle)) for middle in middles)
    whole = all(sum(map(_is_image, part)) == 1 for part in parts.values())
    return list(parts.values()) if numbered and whole else [group]


def _is_image(member: tarfile.TarInfo) -> bool:
    return member.name.lower().endswith(IMAGE_SUFFIXES)


def _entry(
    archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], path: Path
) -> tuple[int, int, str, int, str]:
    """Offset, size and suffix of the image, the label, and the suffix of its member if any."""
    images = [info for info in members if _is_image(info)]
    if len(images) != 1:
        raise ValueError(
            f'sample {_key(members[0].name)!r} of {path} has {len(images)} images; expected is '
            f'one, with one of these suffixes: {" ".join(IMAGE_SUFFIXES)}. A sample is what has '
            f'one name up to the first dot; here: {", ".join(m.name for m in members[:4])}'
        )
    notes = {os.path.splitext(info.name)[1]: info for info in reversed(members)}
    found = next((suffix for suffix in LABELS if suffix in notes), '')
    label = _label(archive, notes[found], path) if found else NO_LABEL
    suffix = os.path.splitext(images[0].name)[1].lower()
    return images[0].offset_data, images[0].size, suffix, label, found


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    """The number that a member holds; none is refused in a ``.cls``, ``NO_LABEL`` in others."""
    file = archive.extractfile(member)
    text = b'' if file is None else file.read(MAX_NOTE)
    place = f'{member.name} of {path}'
    if member.name.endswith('.cls'):
        return class_number(text.decode(errors='replace').strip(), place)
    if not member.name.endswith('.json'):
        return _number_or_none(text.decode(errors='replace').strip(), place)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return NO_LABEL
    notes = values if isinstance(values, dict) else {'label': values}
    value = next((notes[key] for key in JSON_LABELS if key in notes), None)
    return class_number(str(value), place) if type(value) is int else NO_LABEL


def _number_or_none(text: str, place: str) -> int:
    """The number of a class in a text, which may also be a caption."""
    try:
        return class_number(text, place)
    except ValueError:
        return NO_LABEL


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
