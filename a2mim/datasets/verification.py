"""Check every image of a source in worker processes, which an image may crash.

Axes: C channels, (H, W) pixels.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from a2mim.datasets.decoding import open_picture
from a2mim.datasets.image_files import StoredImages
from a2mim.errors import BadDataError
from a2mim.scale import Moments, type_name

CHUNK = 32  # images per task
SAMPLED = 4096  # pixels of an image that tell its range
# Text in the reason of an error, and the kind of error to report.
KINDS = {
    'it is empty': 'empty',
    'no known image format': 'no image',
    'truncated': 'truncated',
    'ends after': 'truncated',
    'decompression bomb': 'too large',
    'more than': 'too large',
    'No such file': 'missing',
    'Permission denied': 'forbidden',
    ' asked': 'channels',
    'values': 'values',
}
DEADLY = 'deadly'


class ImageCheck(NamedTuple):
    """The result of reading an image.

    Attributes:
        index: The image.
        kind: The kind of error, None for a readable image.
        reason: The error message.
        size: (H, W) of a readable image.
        mode: Its Pillow mode, such as 'RGB'.
        dtype: The type of its pixels.
        used: Least and largest of most of its values.
        filled: Number of missing values that were filled.
    """

    index: int
    kind: str | None = None
    reason: str = ''
    size: tuple[int, int] = (0, 0)
    mode: str = ''
    dtype: str = ''
    used: tuple[float, float] = (0, 0)
    filled: int = 0


def check_image(source: StoredImages, index: int) -> ImageCheck:
    """Read one image."""
    try:
        image, filled = source.load_and_count(index)
    except BadDataError as error:
        reason = _reason(error)
        kinds = (kind for text, kind in KINDS.items() if text.lower() in reason.lower())
        return ImageCheck(index, next(kinds, 'damaged'), reason)
    _, height, width = image.shape
    low, high = Moments.of(image, SAMPLED).percentiles()
    return ImageCheck(
        index,
        size=(height, width),
        mode=_mode(source, index),
        dtype=type_name(image),
        used=(float(low.min()), float(high.max())),
        filled=filled,
    )


def check_images(source: StoredImages, workers: int) -> Iterator[ImageCheck]:
    """Read all images, in any order; with 0 ``workers`` in this process.

    If a process crashes, its images are read again one at a time, to find the one that crashes it.
    """
    size = len(source)
    chunks: deque[Sequence[int]] = deque(
        range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)
    )
    if workers == 0:
        yield from (check_image(source, index) for chunk in chunks for index in chunk)
        return
    while chunks:
        unfinished: dict[Future, Sequence[int]] = {}
        try:
            with _pool(source, workers) as pool:
                yield from _check_chunks(pool, chunks, unfinished, 2 * workers)
        except BrokenProcessPool:
            for chunk in unfinished.values():
                yield from _check_singly(source, chunk)


def _check_chunks(
    pool: ProcessPoolExecutor,
    chunks: deque[Sequence[int]],
    unfinished: dict[Future, Sequence[int]],
    most: int,
) -> Iterator[ImageCheck]:
    """Read ``chunks``, with at most ``most`` in ``unfinished``, where an error leaves them.

    Raises:
        BrokenProcessPool: If a process crashed.
    """
    while chunks or unfinished:
        while chunks and len(unfinished) < most:
            chunk = chunks.popleft()
            unfinished[pool.submit(_check_here, chunk)] = chunk
        for future in wait(unfinished, return_when=FIRST_COMPLETED).done:
            results = future.result()
            del unfinished[future]
            yield from results


def _check_singly(source: StoredImages, indices: Iterable[int]) -> Iterator[ImageCheck]:
    """Read images one by one in a process that is replaced when it crashes."""
    left = deque(indices)
    while left:
        with _pool(source, 1) as pool:
            try:
                while left:
                    yield from pool.submit(_check_here, [left[0]]).result()
                    left.popleft()
            except BrokenProcessPool:
                yield ImageCheck(left.popleft(), DEADLY, 'the process that reads it dies')


# Sent to a process once, at its start: a source may hold millions of names.
_HERE: dict[str, StoredImages] = {}


def _pool(source: StoredImages, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(source,))


def _begin(source: StoredImages) -> None:
    """Take the source, and end with the parent: a pool whose parent is killed waits for ever."""
    _HERE['source'] = source
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _check_here(indices: Iterable[int]) -> list[ImageCheck]:
    return [check_image(_HERE['source'], index) for index in indices]


def _reason(error: BaseException) -> str:
    """The message of the decoder or the file system, without the path."""
    while isinstance(error, BadDataError) and error.__cause__:
        error = error.__cause__
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _mode(source: StoredImages, index: int) -> str:
    """Pillow's mode of an image, or the number of bands of an array."""
    try:
        with open_picture(source.content(index), source.suffix(index)) as picture:
            return picture.mode
    except (ValueError, OSError):
        return f'{source.channels} bands'
