"""Read every image of a source, in several processes that may die of it.

Axes: C channels, (H, W) pixels.
"""

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from a2mim.datasets.image_files import StoredImages
from a2mim.errors import BadDataError

CHUNK = 32  # images that a process is handed at a time
# What the reason of an error contains, and what a person calls such a file.
KINDS = {
    'it is empty': 'empty',
    'no known image format': 'no image',
    'truncated': 'truncated',
    'decompression bomb': 'too large',
    'more than': 'too large',
    'No such file': 'missing',
    'Permission denied': 'forbidden',
    'channels first or last': 'channels',
    'values': 'values',
}
DEADLY = 'deadly'


class Verdict(NamedTuple):
    """What reading an image has shown.

    Attributes:
        index: The image.
        kind: In a word why it cannot be read, None if it can.
        reason: The same in a sentence.
        size: (H, W) of a good image.
        mode: What a good image is stored as, such as 'RGB'.
    """

    index: int
    kind: str | None = None
    reason: str = ''
    size: tuple[int, int] = (0, 0)
    mode: str = ''


def examine(source: StoredImages, index: int) -> Verdict:
    """Read one image."""
    try:
        image = source.load(index)
    except BadDataError as error:
        reason = _reason(error)
        kinds = (kind for text, kind in KINDS.items() if text.lower() in reason.lower())
        return Verdict(index, next(kinds, 'damaged'), reason)
    return Verdict(index, size=tuple(image.shape[1:]), mode=_mode(source, index))


def examine_all(source: StoredImages, workers: int) -> Iterator[Verdict]:
    """Read all images, in any order; 0 ``workers`` read in this process.

    A process that dies takes nothing with it: what it was given is read again, one image at a
    time, until the one is known that kills.
    """
    size = len(source)
    chunks = deque(range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))
    if workers == 0:
        yield from (examine(source, index) for chunk in chunks for index in chunk)
        return
    while chunks:
        unfinished: dict[Future, Sequence[int]] = {}
        try:
            with _pool(source, workers) as pool:
                yield from _examine_chunks(pool, chunks, unfinished, 2 * workers)
        except BrokenProcessPool:
            for chunk in unfinished.values():
                yield from _examine_singly(source, chunk)


def _examine_chunks(
    pool: ProcessPoolExecutor,
    chunks: deque[Sequence[int]],
    unfinished: dict[Future, Sequence[int]],
    most: int,
) -> Iterator[Verdict]:
    """Work ``chunks`` off, with at most so many ``unfinished`` ones, which an error leaves there.

    Raises:
        BrokenProcessPool: If a process died.
    """
    while chunks or unfinished:
        while chunks and len(unfinished) < most:
            chunk = chunks.popleft()
            unfinished[pool.submit(_examine_here, chunk)] = chunk
        for future in wait(unfinished, return_when=FIRST_COMPLETED).done:
            verdicts = future.result()
            del unfinished[future]
            yield from verdicts


def _examine_singly(source: StoredImages, indices: Iterable[int]) -> Iterator[Verdict]:
    """Read images one after the other in a process of their own, replaced when it dies."""
    left = deque(indices)
    while left:
        with _pool(source, 1) as pool:
            try:
                while left:
                    yield from pool.submit(_examine_here, [left[0]]).result()
                    left.popleft()
            except BrokenProcessPool:
                yield Verdict(left.popleft(), DEADLY, 'the process that reads it dies')


# The source travels to a process once, when that starts: it may hold millions of names.
_HERE: dict[str, StoredImages] = {}


def _pool(source: StoredImages, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_HERE.update, initargs=({'source': source},))


def _examine_here(indices: Iterable[int]) -> list[Verdict]:
    return [examine(_HERE['source'], index) for index in indices]


def _reason(error: BaseException) -> str:
    """What the error of the decoder or the file system says, without the path."""
    while isinstance(error, BadDataError) and error.__cause__:
        error = error.__cause__
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _mode(source: StoredImages, index: int) -> str:
    """How Pillow calls what an image is stored as; arrays and bands are beyond it."""
    try:
        with Image.open(io.BytesIO(source.content(index))) as picture:
            return picture.mode
    except UnidentifiedImageError:
        return f'{source.channels} bands'
