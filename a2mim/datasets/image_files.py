"""Sources of encoded images: the base class, folders and lists of files.

Axes: N images, C channels, (H, W) pixels, K classes, M most classes of an image.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2mim.datasets.decoding import (
    IMAGE_SUFFIXES,
    START,
    decode_and_count,
    read_file,
    refusal,
    suffix_of,
)
from a2mim.datasets.folder_scan import left_out, scan_folder, scan_once
from a2mim.datasets.layout import Layout, check_type
from a2mim.datasets.list_files import (
    FORM,
    Names,
    encoded,
    log_once,
    named_classes,
    numbered_classes,
    read_list,
)
from a2mim.datasets.storage import ABSENT, SILENT, Storage
from a2mim.errors import BadDataError
from a2mim.registry import DATASETS, TOGETHER
from a2mim.scale import type_name

PROBES = 5  # images that are read to tell whether the storage answers


class StoredImages(ABC):
    """Base class of image sources that decode bytes (files, tar shards, LMDB).

    Args:
        root: The folder of the images.
        entries: (N,), the location of each image below ``root``, in a form of the subclass. An
            array or ``Names``, so that worker processes share it without a copy.
        labels: (N,), one class per image; (N, M), several, see ``read_list``; or None.
        classes: Names of the classes, empty without labels.
        channels, shrink_to: See ``read_image``.
        labels_per_class, seed: See ``draw_per_class``.
        bands, page, axes, nodata: See ``Layout``.
        dtype: The type that every image must have, such as 'uint16'; None takes any.

    Raises:
        ValueError: If ``labels_per_class`` is set without one label per image, or an option of the
            layout cannot be met.
    """

    def __init__(
        self,
        root: str,
        entries: np.ndarray | Names,
        labels: Sequence[int] | np.ndarray | None,
        classes: Sequence[str],
        *,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
        seed: int | None = None,
        bands: Sequence[int] | None = None,
        page: int | None = None,
        axes: str | None = None,
        nodata: float | None = None,
        dtype: str | None = None,
    ) -> None:
        self.root = root
        self.storage = Storage(root)
        self.entries: Any = entries
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = tuple(classes)
        self.channels = channels
        self.shrink_to = shrink_to
        self.layout = Layout.of(channels, bands, page, axes, nodata)
        if dtype is not None:
            check_type(np.dtype(dtype))
        self.dtype = dtype
        if labels_per_class is not None:
            if self.labels is None:
                raise ValueError(
                    f'labels_per_class={labels_per_class} needs labels, and {root!r} is read '
                    'without; use ImageFolder(with_labels=True) or a list of lines "path label"'
                )
            if self.labels.ndim == 2:
                raise ValueError(
                    f'labels_per_class={labels_per_class} needs one class per image, and those of '
                    f'{root!r} have several; leave it out'
                )
            kept = draw_per_class(self.labels, labels_per_class, seed)
            self.entries, self.labels = self.entries[kept], self.labels[kept]

    def __len__(self) -> int:
        return len(self.entries)

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of an image: a path, or ``file::member``. Never raises an error."""

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
        """Read an image, (C, H, W), in the type of its file.

        Raises:
            BadDataError: If it cannot be read; the message names it and the index.
            StorageError: If neither it nor others can be read, for minutes.
        """
        return self.load_and_count(index)[0]

    def load_and_count(self, index: int) -> tuple[Tensor, int]:
        """``load``, and the number of missing values that were filled."""
        try:
            data = self.storage.read(partial(self._content, index), partial(self._answers, index))
            suffix = '' if data.startswith(START) else self.suffix(index)  # JPEG needs none
            image, filled = decode_and_count(
                data, suffix, self.channels, self.shrink_to, self.layout
            )
            if self.dtype is not None and self.dtype != type_name(image):
                raise BadDataError(
                    f'its values are {type_name(image)}, and those of the data set {self.dtype}, '
                    'to which the scale belongs'
                )
            return image, filled
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

    def label(self, index: int) -> int | Tensor | None:
        """Class of an image; (K,) uint8 with 1 for each class, if images have several; or None."""
        if self.labels is None:
            return None
        label = self.labels[index]
        if label.ndim == 0:
            return int(label)
        target = torch.zeros(len(self.classes), dtype=torch.uint8)
        target[label[label >= 0]] = 1
        return target


LONGEST_PATH = 4096  # bytes; PATH_MAX of Linux


class ImageFiles(StoredImages):
    """Files below a folder, with or without labels.

    Args:
        root: The folder.
        paths: Paths below ``root``, at least one.
        labels: See ``StoredImages``.
        classes: Names of the classes, empty without labels.
        **options: See ``StoredImages``.
    """

    def __init__(
        self,
        root: str,
        paths: Sequence[str],
        labels: Sequence[int] | np.ndarray | None,
        classes: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(root, encoded(paths, LONGEST_PATH), labels, classes, **options)

    def name(self, index: int) -> str:
        """Path of an image; bytes that are not UTF-8 are decoded by ``os.fsdecode``."""
        return os.path.join(self.root, os.fsdecode(self.entries[index]))

    def content(self, index: int) -> bytes:
        """All bytes of the file."""
        return read_file(self.name(index), self.channels)


@DATASETS.register_module()
class ImageFolder(ImageFiles):
    """All images below a folder, at any depth, in the order of their paths.

    Hidden files and folders are skipped. A link to a folder is followed, unless the folder is read
    already or contains ``root``. The log says which links and files are left out.

    Args:
        root: The folder.
        with_labels: Take the folders directly below ``root`` as classes, in alphabetical order.
        channels, shrink_to: See ``read_image``.
        labels_per_class: See ``draw_per_class``.
        **options: See ``StoredImages``.

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
        **options: Any,
    ) -> None:
        root = os.path.expanduser(root)
        if not os.path.isdir(root):
            raise FileNotFoundError(f'root={root!r} is not a folder; give the folder of images')
        scan = scan_once(root) if TOGETHER.depth else scan_folder(root)
        paths = sorted(scan.paths)
        if not paths:
            raise FileNotFoundError(
                f'no image in root={root!r} or its sub-folders; expected are files with one of '
                f'these suffixes: {" ".join(IMAGE_SUFFIXES)}'
            )
        for line in left_out(scan):
            log_once(f'{root!r}: {line}')
        classes = _class_folders(root, paths, scan.links) if with_labels else []
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
            **options,
        )


def _class_folders(root: str, paths: list[str], links: list[str]) -> list[str]:
    """Sorted names of the folders directly below ``root``, each with an image.

    ``links`` to folders that are not read are no classes.
    """
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
    folders = [name for name in folders if name not in links]
    empty = [name for name in folders if name not in filled]
    if empty:
        raise ValueError(
            f'with_labels=True takes the folders in root={root!r} as classes, but these have no '
            f'image: {empty[:5]}; fill or remove them'
        )
    return folders


@DATASETS.register_module()
class ImageList(ImageFiles):
    """Images of a list file, see ``read_list``: one ``path`` or ``path label`` per line.

    Args:
        list_file: The text file, UTF-8; file names may have other bytes.
        root: Folder to which the paths are relative.
        classes_file: The names of the classes, one per line; None names them by number.
        channels, shrink_to: See ``read_image``.
        labels_per_class: See ``draw_per_class``.
        **options: See ``StoredImages``.

    Raises:
        FileNotFoundError: If the list, the folder or the first image is missing.
        ValueError: See ``read_list``.
    """

    def __init__(
        self,
        list_file: str,
        root: str,
        *,
        classes_file: str | None = None,
        channels: int = 3,
        shrink_to: int | None = None,
        labels_per_class: int | None = None,
        **options: Any,
    ) -> None:
        list_file, root = os.path.expanduser(list_file), os.path.expanduser(root)
        if not os.path.isfile(list_file):
            raise FileNotFoundError(f'list_file={list_file!r} does not exist')
        paths, labels = read_list(list_file)
        # Only the first: a check of a million files would delay every start.
        if not os.path.isfile(os.path.join(root, paths[0])):
            raise FileNotFoundError(
                f'{paths[0]!r}, the first entry of {list_file!r}, is not in root={root!r}; '
                f'paths in the list are relative to root; {FORM}'
            )
        classes = numbered_classes(labels, list_file)
        if classes_file is not None:
            classes = named_classes(classes, classes_file)
        super().__init__(
            root,
            paths,
            labels,
            classes,
            channels=channels,
            shrink_to=shrink_to,
            labels_per_class=labels_per_class,
            **options,
        )


def draw_per_class(labels: np.ndarray, per_class: int, seed: int | None = None) -> np.ndarray:
    """Draw ``per_class`` images of each class, spread over the class.

    Neighbours in a source are often similar (frames of a video, patches of a photograph). So each
    class, taken as a ring from a random start, is cut into ``per_class`` equal runs, and one image
    is drawn from each: every image is as likely as any other, and neighbours are rarely both drawn.

    Args:
        labels: (N,), class of each image.
        per_class: Images to keep of each class.
        seed: Of the draw. None is the seed of the run, which ``tools/train.py`` writes into the
            config of the training images; images to measure on, and those of a source that no run
            builds, are drawn with 0.

    Returns:
        Ascending indices into ``labels``.

    Raises:
        ValueError: If a class has fewer images, ``per_class`` is below 1, or ``seed`` negative.
        TypeError: If one of them is no whole number.
    """
    check_whole('labels_per_class', per_class, 1, 'None for all')
    check_whole('seed', 0 if seed is None else seed, 0, 'None for the seed of the run')
    by_class = np.argsort(labels, kind='stable')
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=per_class) < per_class:
        scarce = counts.argmin()
        raise ValueError(
            f'labels_per_class={per_class} is more than the {counts[scarce]} images of class '
            f'{classes[scarce]}'
        )
    rng = np.random.default_rng((seed or 0, DRAW))
    edges = np.arange(per_class + 1) * counts[:, None] // per_class  # (K, per_class + 1)
    drawn = rng.integers(edges[:, :-1], edges[:, 1:])
    within = (drawn + rng.integers(counts)[:, None]) % counts[:, None]
    starts = np.cumsum(counts) - counts
    return np.sort(by_class[(starts[:, None] + within).ravel()])


DRAW = 2  # appended to the seed: a random stream apart from those of samples


def check_whole(name: str, value: object, least: int, otherwise: str) -> None:
    """Refuse what is no whole number from ``least`` on.

    Raises:
        TypeError, ValueError: If so.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f'{name}={value!r} must be a whole number, or {otherwise}')
    if value < least:
        raise ValueError(f'{name}={value} must be at least {least}, or {otherwise}')
