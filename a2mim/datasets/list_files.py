"""List files: one image a line, with no label, one, or several.

Axes: N images, M most labels of an image.
"""

import logging
import os
import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import overload

import numpy as np
from mmengine.logging import print_log

from a2mim.datasets.decoding import IMAGE_SUFFIXES

NO_LABEL = -1
MAX_CLASSES = 1_000_000  # a larger label is a mistake, and every class has a name in memory
MAX_LINE = 2**16  # characters: the longest path and ten thousand labels
SEPARATORS = ' \t,;'
ROOM = 8  # characters that hold the longest suffix and a quotation mark
FORM = 'write one "path" or "path label" per line, or "path,1,4" for several labels'


@cache
def log_once(message: str) -> None:
    """Log a warning, which further sources of the same data do not repeat."""
    print_log(message, logger='current', level=logging.WARNING)


def read_list(list_file: str) -> tuple[list[str], np.ndarray | None]:
    """Paths and labels of a list.

    A line is a path and its labels, separated by blanks, tabs, commas or semicolons. ``a.jpg,1,4``
    is of two classes and ``a.jpg,`` of none. A first line such as ``path label`` is left out. Paths
    may contain separators; one without an image suffix may have one label, after a blank or tab.

    Returns:
        The paths, and the labels: None without any, (N,) where every image has one class,
        otherwise (N, M), padded by ``NO_LABEL``.

    Raises:
        ValueError: If the list has no entry, only some lines have a label, or a label is not the
            number of a class; the message names the line.
    """
    lines = _lines(list_file)
    paths, labels = [], []
    for number, line in lines:
        path, label = _split(line, f'line {number} of {list_file!r}')
        paths.append(path)
        labels.append(label)
    if _is_header(lines, paths, labels):
        log_once(f'{list_file!r}: line {lines[0][0]}, {lines[0][1]!r}, is read as a header')
        _refuse_table(lines[0], list_file)
        del paths[0], labels[0]
    labelled = sum(label is not None for label in labels)
    if labelled not in (0, len(labels)):
        odd = labels.index(None)
        raise ValueError(
            f'list_file={list_file!r} has a label in {labelled} of {len(labels)} lines but not '
            f'for {paths[odd]!r}; label all images or none: {FORM}'
        )
    array = _as_array(labels, list_file) if labelled else None
    return paths, None if array is None or array.max() < 0 else array


def _lines(list_file: str) -> list[tuple[int, str]]:
    """The lines with an entry, stripped, and their numbers from 1."""
    data = Path(list_file).read_bytes()
    if data[:2] in (b'\xff\xfe', b'\xfe\xff') or b'\0' in data[:MAX_LINE]:
        raise ValueError(f'list_file={list_file!r} is UTF-16 or no text; save it as UTF-8')
    text = data.removeprefix(b'\xef\xbb\xbf').decode('utf-8', errors='surrogateescape')
    # splitlines would also cut at characters that names may contain.
    whole = enumerate(text.split('\n' if '\n' in text else '\r'), start=1)
    lines = [(number, line.strip()) for number, line in whole if line.strip()]
    if not lines:
        raise ValueError(f'list_file={list_file!r} has no entry; {FORM}')
    for number, line in lines:
        if len(line) > MAX_LINE:
            raise ValueError(
                f'line {number} of {list_file!r} has {len(line)} characters, more than {MAX_LINE}; '
                f'{FORM}'
            )
    return lines


def _split(line: str, place: str) -> tuple[str, int | tuple[int, ...] | None]:
    """The path of a line and its label: a number, several, or None."""
    path, _, last = line.rpartition(' ')
    if last.isdecimal() and path.lower().endswith(IMAGE_SUFFIXES):  # most lists
        return path, class_number(last, place)
    end, words = len(line), []
    while not _ends_an_image(line, end):
        cut = max(line.rfind(mark, 0, end) for mark in SEPARATORS)
        if cut < 1:
            return _split_other(line, place)
        words.append(line[cut + 1 : end].strip('"'))
        end = cut
    path = line[:end]
    if path[0] == path[-1] == '"':
        path = path[1:-1]
    if not words:
        return path, None
    numbers = tuple(class_number(word, place) for word in reversed(words) if word)
    if len(set(numbers)) < len(numbers):
        raise ValueError(
            f'{place} repeats a label: {line[-60:]!r}; expected are numbers of classes, such as '
            '"path,1,4", not a column of 0 and 1 for each class'
        )
    return path, numbers[0] if len(numbers) == 1 else numbers


def _ends_an_image(line: str, end: int) -> bool:
    """Whether the name of an image ends at ``end``, or its closing quotation mark."""
    return line[max(0, end - ROOM) : end].lower().removesuffix('"').endswith(IMAGE_SUFFIXES)


def _split_other(line: str, place: str) -> tuple[str, int | None]:
    """Split a line without an image suffix at its last blank or tab, if digits follow."""
    match = re.search(r'[ \t](\S+)$', line)
    if match and match[1].isdecimal():
        return line[: match.start()].rstrip(), class_number(match[1], place)
    return line, None


def class_number(text: str, place: str) -> int:
    """The number of a class.

    Args:
        text: As it was found.
        place: Where it was found, for the message.

    Raises:
        ValueError: If it is not a whole number from 0 to ``MAX_CLASSES`` - 1.
    """
    if text.isdecimal() and len(text) < 20 and int(text) < MAX_CLASSES:
        return int(text)
    raise ValueError(
        f'{place} has the label {text[:20]!r}; expected is the number of a class, a whole number '
        f'from 0 to {MAX_CLASSES - 1}'
    )


def _is_header(lines: Sequence[tuple[int, str]], paths: Sequence[str], labels: Sequence) -> bool:
    """Whether only the first of several lines has no label and no image suffix."""
    return (
        labels[0] is None
        and len(labels) > 1
        and None not in labels[1:]
        and not paths[0].lower().endswith(IMAGE_SUFFIXES)
        and paths[1].lower().endswith(IMAGE_SUFFIXES)
        and re.search(rf'[{SEPARATORS}]', lines[0][1]) is not None
    )


def _refuse_table(header: tuple[int, str], list_file: str) -> None:
    """Refuse a table with more columns than a path and a label: they may be 0 and 1 per class."""
    columns = re.split(r'\s*[,;\t]\s*|\s+', header[1])
    if len(columns) > 2:
        raise ValueError(
            f'line {header[0]} of {list_file!r} names {len(columns)} columns, '
            f'{header[1][:60]!r}; expected are a path and the numbers of its classes: {FORM}'
        )


def _as_array(labels: Sequence[int | tuple[int, ...]], list_file: str) -> np.ndarray:
    """(N,) if every image has one class, else (N, M) padded by ``NO_LABEL``."""
    if not any(isinstance(label, tuple) for label in labels):
        return np.array(labels, dtype=np.int64)
    sets = [label if isinstance(label, tuple) else (label,) for label in labels]
    most = max(map(len, sets))
    array = np.full((len(sets), max(1, most)), NO_LABEL, dtype=np.int64)
    for row, label in zip(array, sets, strict=True):
        row[: len(label)] = label
    if most > 1 and (array >= 0).all() and most == array.max() + 1:
        raise ValueError(
            f'list_file={list_file!r} gives every image all {most} classes; are these columns of '
            '0 and 1 for each class? Expected are numbers of classes, such as "path,1,4"'
        )
    return array


def numbered_classes(labels: np.ndarray | None, place: str) -> list[str]:
    """Names of the classes that have no other: their numbers. Classes without an image are logged.

    Args:
        labels: (N,) or (N, M), see ``read_list``.
        place: The source, for the log.
    """
    if labels is None:
        return []
    names = [str(number) for number in range(labels.max() + 1)]
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        listed = ', '.join(map(str, empty[:5])) + (', …' if len(empty) > 5 else '')
        from_1 = ' (labels begin at 1; classes are counted from 0)' if empty == [0] else ''
        log_once(f'{place!r}: of {len(names)} classes these have no image: {listed}{from_1}')
    return names


def named_classes(numbered: Sequence[str], file: str) -> list[str]:
    """Names of the classes that ``numbered`` has by number, from a file with one per line.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it has fewer names than there are classes, or one of them twice.
    """
    if not os.path.isfile(os.path.expanduser(file)):
        raise FileNotFoundError(f'classes_file={file!r} does not exist')
    text = Path(file).expanduser().read_text(encoding='utf-8-sig', errors='surrogateescape')
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) < len(numbered) or len({*names}) < len(names):
        raise ValueError(
            f'classes_file={file!r} has {len({*names})} different names in {len(names)} lines, and '
            f'the labels are of {len(numbered)} classes; write one name per line, class 0 first'
        )
    return names


class Names:
    """Names in one run of bytes, which worker processes share without a copy.

    An array of numpy would give to each the bytes of the longest.

    Args:
        names: In order.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        data, starts = bytearray(), array('Q', [0])
        for name in names:
            data += name
            starts.append(len(data))
        self.data = bytes(data)
        self.starts = np.array(starts, dtype=np.min_scalar_type(len(data)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> 'Names': ...

    def __getitem__(self, index: int | np.ndarray) -> 'bytes | Names':
        """One name; or those at an array of indices."""
        if isinstance(index, np.ndarray):
            return Names(self[place] for place in index.tolist())
        place = range(len(self))[index]  # counts from the end, or raises an IndexError
        return self.data[self.starts[place] : self.starts[place + 1]]


def encoded(paths: Sequence[str], most: int) -> Names:
    """Paths or keys as bytes.

    Args:
        paths: As read from a list.
        most: Longest name that can exist. A longer one, which exists neither way, is cut behind it.
    """
    return Names(os.fsencode(path)[: most + 1] for path in paths)
