"""Where each image lies in a folder of tar files, so that any of them can be read by its number.

Axes: N images.
"""

import json
import os
import tarfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from a2mim.datasets.reading import IMAGE_SUFFIXES

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
