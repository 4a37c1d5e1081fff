"""Sources of encoded images: the base class, folders and list files.

Axes: C channels, (H, W) pixels.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from a2mim.datasets.decoding import IMAGE_SUFFIXES, decode_image, read_file, refusal, suffix_of
from a2mim.datasets.storage import ABSENT, SILENT, Storage
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS

PROBES = 5  # images that are read to tell whether the storage answers


class StoredImages(ABC):
    """Base class of image sources that decode bytes (files, tar shards, LMDB).

    Args:
        root: The folder of the images.
        entries: (N,), the location of each image below ``root``, in a form of the subclass. An
            array, so that worker processes share it without a copy.
        labels: One class per image, or None.
        classes: Names of the classes, empty without labels.
        channels, shrink_to: See ``read_image``.
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
        self.storage = Storage(root)
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
        """The name of an image: a path, or ``file::member``."""

    def suffix(self, index: int) -> str:
        """The suffix of its name, in lower case."""
        return suffix_of(self.name(index))

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            OSError: If they cannot be read.
        """

    def load(self, index: int) -> Tensor:
        """Read an image, (C, H, W), uint8.

        Raises:
            BadDataError: If it cannot be read; the message names it and the index.
            StorageError: If neither it nor others can be read, for minutes.
        """
        try:
            data = self.storage.read(partial(self._content, index), partial(self._answers, index))
            return decode_image(data, self.suffix(index), self.channels, self.shrink_to)
        except (OSError, BadDataError) as error:
            raise BadDataError(
                f'image {index} of {self.root!r}: '
                f'{refusal(error, self.name(index), self.channels)}; repair the file or remove it '
                '(tools/prepare_data/verify_dataset.py finds all such files)'
            ) from error

    def reopen(self) -> None:  # noqa: B027 (most have none)
        """Close files that stay open between two images: their handles may be stale."""

    def _content(self, index: int) -> bytes:
        try:
            return self.content(index)
        except OSError:
            self.reopen()
            raise

    def _answers(self, index: int) -> bool:
        """Whether one of a few other images can be read; without others, whether the root is."""
        others = {*np.linspace(0, len(self) - 1, PROBES, dtype=int).tolist()} - {index}
        for other in others:
            try:
                self._content(other)
            except OSError as error:
                if error.errno in SILENT | ABSENT:
                    continue
            return True
        return not others and os.path.exists(self.root)

    def label(self, index: int) -> int | None:
        """Class of an image, None without labels."""
        return None if self.labels is None else int(self.labels[index])


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
        **options: Any,
    ) -> None:
        entries = np.array([os.fsencode(path) for path in paths])
        super().__init__(root, entries, labels, classes, **options)

    def name(self, index: int) -> str:
        """Path of an image; bytes that are not UTF-8 are decoded by ``os.fsdecode``."""
        return os.path.join(self.root, os.fsdecode(self.entries[index]))

    def content(self, index: int) -> bytes:
        """All bytes of the file."""
        return read_file(self.name(index), self.channels)


@DATASETS.register_module()
class ImageFolder(ImageFiles):
    """All images below a folder, at any depth, in the order of their paths.

    Hidden files and folders are skipped; links are followed.

    Args:
        root: The folder.
        with_labels: Take the folders directly below ``root`` as classes, in alphabetical order.
        channels, shrink_to: See ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If the folder is missing or has no image.
        ValueError: If ``with_labels`` is set and a class folder is empty or an image is in none.
    """

    def __init__(
        self,
        root: str,
        with_labels: bool = False,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        root = os.path.expanduser(root)
        if not os.path.isdir(root):
            raise FileNotFoundError(f'root={root!r} is not a folder; give the folder of images')
        paths = sorted(_images_below(root))
        if not paths:
            raise FileNotFoundError(
                f'no image in root={root!r} or its sub-folders; expected are files with one of '
                f'these suffixes: {" ".join(IMAGE_SUFFIXES)}'
            )
        classes = _class_folders(root, paths) if with_labels else []
        number = {name: label for label, name in enumerate(classes)}
        labels = [number[path.split(os.sep, 1)[0]] for path in paths] if with_labels else None
        super().__init__(
            root,
            paths,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )


def _images_below(root: str) -> Iterator[str]:
    """Paths of images relative to ``root``."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        below = '' if folder == root else os.path.relpath(folder, root) + os.sep
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.'):
                yield below + name


def _class_folders(root: str, paths: list[str]) -> list[str]:
    """Sorted names of the folders directly below ``root``, each with an image."""
    loose = [path for path in paths if os.sep not in path]
    if loose:
        raise ValueError(
            f'with_labels=True takes the folders in root={root!r} as classes, but {len(loose)} '
            f'images are in none, such as {loose[0]!r}; move them or set with_labels=False'
        )
    filled = {path.split(os.sep, 1)[0] for path in paths}
    folders = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != '.'
    )
    empty = [name for name in folders if name not in filled]
    if empty:
        raise ValueError(
            f'with_labels=True takes the folders in root={root!r} as classes, but these have no '
            f'image: {empty[:5]}; fill or remove them'
        )
    return folders


@DATASETS.register_module()
class ImageList(ImageFiles):
    """Images of a list file, one ``path`` or ``path label`` per line, as in the ImageNet lists.

    Paths may contain spaces. All lines have a label or none has. Classes are named by number.

    Args:
        list_file: The text file, UTF-8; file names may have other bytes.
        root: Folder to which the paths are relative.
        channels, shrink_to: See ``read_image``.
        labels_per_class: Keep only so many images of each class.

    Raises:
        FileNotFoundError: If the list, the folder or the first image is missing.
        ValueError: If the list has no entry, or only some lines have a label.
    """

    def __init__(
        self,
        list_file: str,
        root: str,
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
    ) -> None:
        list_file, root = os.path.expanduser(list_file), os.path.expanduser(root)
        if not os.path.isfile(list_file):
            raise FileNotFoundError(f'list_file={list_file!r} does not exist')
        paths, labels = read_list(list_file)
        # Only the first: a check of a million files would delay every start.
        if not os.path.isfile(os.path.join(root, paths[0])):
            raise FileNotFoundError(
                f'{paths[0]!r}, the first entry of {list_file!r}, is not in root={root!r}; '
                'paths in the list are relative to root'
            )
        classes = [str(label) for label in range(max(labels) + 1)] if labels else []
        super().__init__(
            root,
            paths,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
        )


def read_list(list_file: str) -> tuple[list[str], list[int] | None]:
    """Paths and labels of a list, None without labels.

    Raises:
        ValueError: If the list has no entry, or only some lines have a label.
    """
    text = Path(list_file).read_text(encoding='utf-8', errors='surrogateescape')
    lines = text.split('\n')  # splitlines would also cut at characters that names may contain
    entries = [_split(line.strip()) for line in lines if line.strip()]
    if not entries:
        raise ValueError(f'list_file={list_file!r} has no entry; write one "path [label]" per line')
    paths, labels = zip(*entries, strict=True)
    labelled = sum(label is not None for label in labels)
    if labelled not in (0, len(labels)):
        odd = paths[labels.index(None)]
        raise ValueError(
            f'list_file={list_file!r} has a label in {labelled} of {len(labels)} lines but not '
            f'for {odd!r}; label all images or none'
        )
    return list(paths), list(labels) if labelled else None


def _split(line: str) -> tuple[str, int | None]:
    """Split off a last word of digits as the label, unless the line ends with an image suffix."""
    path, _, last = line.rpartition(' ')
    if path and last.isdecimal() and not line.lower().endswith(IMAGE_SUFFIXES):
        return path.rstrip(), int(last)
    return line, None


def spread_over_classes(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Pick ``per_class`` images of each class, evenly spaced over the class.

    Neighbours in a source are often similar (frames of a video, patches of a photograph), so the
    first few images would be less diverse.

    Args:
        labels: (N,), class of each image.
        per_class: Images to keep of each class.

    Returns:
        Ascending indices into ``labels``.

    Raises:
        ValueError: If a class has fewer images, or ``per_class`` is not positive.
    """
    if per_class < 1:
        raise ValueError(f'labels_per_class={per_class} must be at least 1, or None for all')
    by_class = np.argsort(labels, kind='stable')
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=per_class) < per_class:
        scarce = counts.argmin()
        raise ValueError(
            f'labels_per_class={per_class} is more than the {counts[scarce]} images of class '
            f'{classes[scarce]}'
        )
    within = ((np.arange(per_class) + 0.5) * counts[:, None] / per_class).astype(np.int64)
    starts = np.cumsum(counts) - counts
    return np.sort(by_class[(starts[:, None] + within).ravel()])
