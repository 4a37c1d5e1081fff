"""A file appears under its name only once it is complete, on the disk, and read back.

The order is: a partial file in the same folder, flush, fsync, comparison of what the disk returns
with what was meant, rename, fsync of the folder. A process that dies anywhere in between leaves
the file that was there before, and perhaps a ``*.partial``, which nothing takes for a checkpoint.
This holds for local file systems, whose rename is atomic.
"""

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL = '.partial'
CHUNK = 1 << 22  # bytes read at once


class CheckedFile:
    """A file to write to that keeps the size and the checksum of what it was given.

    ``torch.save`` writes from C++, which cannot pass an ``OSError`` on: the first one is kept, what
    follows is dropped, and ``finish`` raises it.

    Args:
        file: Where the bytes go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.checksum = 0
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``."""
        length = memoryview(data).nbytes
        if self.error is None:
            try:
                put(self.file, data)
                self.size += length
                self.checksum = zlib.crc32(data, self.checksum)
            except OSError as error:
                self.error = error
        return length

    def flush(self) -> None:
        """Nothing: ``finish`` flushes."""

    def finish(self) -> None:
        """Bring everything to the disk.

        Raises:
            OSError: If that failed, or a write before it.
        """
        if self.error is not None:
            raise self.error
        self.file.flush()
        to_disk(self.file.fileno())


def write_atomically(path: Path, write: Callable[[CheckedFile], object]) -> int:
    """Let ``write`` fill the file ``path``; whatever fails, the file of before stays.

    Args:
        path: File in a folder that exists.
        write: Gets an object with a ``write`` method.

    Returns:
        Size of the file in bytes.

    Raises:
        OSError: If the disk refuses, or returns something else than was written.
    """
    # The process in the name lets two of them write the same file, and the later one win.
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    try:
        with partial.open('wb') as file:
            checked = CheckedFile(file)
            failure = None
            try:
                write(checked)
            except RuntimeError as error:
                # torch's complaint about a write that failed says less than the failure itself.
                failure = error
            checked.finish()
            if failure is not None:
                raise failure
        verify(partial, checked.size, checked.checksum)
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
    return checked.size


def replace_link(link: Path, target: str) -> None:
    """Let ``link`` name ``target``, a file beside it, without a moment in which it is missing."""
    fresh = link.with_name(f'{link.name}.{os.getpid()}{PARTIAL}')
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    rename(fresh, link)
    sync_folder(link.parent)


def remove_partials(folder: Path) -> list[str]:
    """Clean up after processes that were killed while they wrote into ``folder``; name what went.

    Nothing else may be writing there.
    """
    partials = sorted(folder.glob(f'*{PARTIAL}'))
    for partial in partials:
        partial.unlink(missing_ok=True)
    return [partial.name for partial in partials]


# The single steps: what can fail, or be the last thing that a process does.


def put(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write a piece of a file."""
    file.write(data)


def to_disk(descriptor: int) -> None:
    """Return once the disk has what was written."""
    os.fsync(descriptor)


def verify(path: Path, size: int, checksum: int) -> None:
    """Read ``path`` from the disk and compare.

    Raises:
        OSError: If it differs.
    """
    found_size = found_checksum = 0
    with path.open('rb', buffering=0) as file:
        if hasattr(os, 'posix_fadvise'):
            # Otherwise the memory answers, which says nothing about the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(CHUNK):
            found_size += len(chunk)
            found_checksum = zlib.crc32(chunk, found_checksum)
    if (found_size, found_checksum) != (size, checksum):
        raise OSError(
            errno.EIO,
            f'the disk returned {found_size} bytes with checksum {found_checksum:08x} where '
            f'{size} with {checksum:08x} were written',
        )


def rename(partial: Path, path: Path) -> None:
    """Give a complete file its name."""
    os.replace(partial, path)


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk."""
    if os.name == 'nt':  # cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        to_disk(descriptor)
    finally:
        os.close(descriptor)
