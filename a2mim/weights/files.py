"""Crash-safe file writing: a file appears under its name only when it is complete and verified.

The steps are: write a partial file in the same folder, flush, fsync, read it back and compare size
and checksum, rename, fsync the folder. A process that is killed at any of them leaves the previous
file, and perhaps a ``*.partial``, which is never taken for a checkpoint. This holds for local file
systems, whose rename is atomic.
"""

import errno
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from a2mim.errors import NotWrittenError

PARTIAL = '.partial'
CHUNK = 1 << 22  # bytes read at once
# Errors that may pass: someone makes room, a network or a device comes back.
TRANSIENT = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ESTALE,
}
WAITS = (0.5, 2.0)  # seconds before another attempt


def write_atomically(
    path: Path,
    write: Callable[[IO[bytes]], object],
    needed: int = 0,
    advice: str = 'Make room, or write to another folder',
) -> int:
    """Let ``write`` fill the file ``path``; the previous file stays if anything fails.

    A lack of space is noticed before the first byte. After an error in ``TRANSIENT`` there are two
    more attempts.

    Args:
        path: File in a folder that exists.
        write: Gets an object with a ``write`` method; called once per attempt.
        needed: Bytes that the file takes at least.
        advice: What to do if the file cannot be written; ends the message.

    Returns:
        Size of the file in bytes.

    Raises:
        NotWrittenError: If the disk refuses, or returns other bytes than were written.
    """
    for wait in (*WAITS, None):
        try:
            if shutil.disk_usage(path.parent).free < needed:
                raise OSError(errno.ENOSPC, 'the disk is full')
            return _write_once(path, write)
        except OSError as error:
            if wait is None or error.errno not in TRANSIENT:
                raise NotWrittenError(_explain(path, error, needed, advice)) from error
        time.sleep(wait)
    raise AssertionError('the last attempt returns or raises')


def _write_once(path: Path, write: Callable[[IO[bytes]], object]) -> int:
    # The process in the name lets two of them write the same file, and the later one win.
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    partial.unlink(missing_ok=True)  # of a process that had the same number
    try:
        with partial.open('xb') as file:  # never what a link names
            checked = _CheckedFile(file)
            failure = None
            try:
                write(cast(IO[bytes], checked))
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


def _explain(path: Path, error: OSError, needed: int, advice: str) -> str:
    try:
        free = f'{shutil.disk_usage(path.parent).free:,} are free'
    except OSError:
        free = f'{path.parent} cannot be examined'
    reason = error.strerror or str(error)
    return f'{path} could not be written: {reason} ({needed:,} bytes needed, {free}). {advice}'


class _CheckedFile:
    """A file to write to that keeps the size and the checksum of what it was given.

    ``torch.save`` writes from C++, which cannot pass an ``OSError`` on: the first one is kept, what
    follows is dropped, and ``finish`` raises it.
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
        """Flush and fsync, or raise the first error of a write."""
        if self.error is not None:
            raise self.error
        self.file.flush()
        to_disk(self.file.fileno())


def replace_link(link: Path, target: str) -> None:
    """Point ``link`` to ``target``, a file in its folder; the link exists at every moment."""
    fresh = link.with_name(f'{link.name}.{os.getpid()}{PARTIAL}')
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    rename(fresh, link)
    sync_folder(link.parent)


def remove_partials(folder: Path, suffix: str = '') -> list[str]:
    """Remove what killed processes left half written in ``folder``; return the names.

    Nothing else may be writing there. Files that other programs call ``*.partial`` stay.

    Args:
        folder: Of the files.
        suffix: Of the files that were being written, such as ``.pth``; empty: any.
    """
    ours = re.compile(rf'.+{re.escape(suffix)}\.\d+{re.escape(PARTIAL)}')
    partials = [
        path
        for path in sorted(folder.glob(f'*{PARTIAL}'))
        if ours.fullmatch(path.name) and (path.is_symlink() or path.is_file())
    ]
    for partial in partials:
        partial.unlink(missing_ok=True)
    return [partial.name for partial in partials]


def open_own(path: Path, flags: int = os.O_RDWR) -> int:
    """Open or create ``path``, a file with a fixed name in a folder that others may write to.

    Returns:
        A descriptor; the content is as it was.

    Raises:
        OSError: If it is a link, has a second name, or is no plain file: writing would change
            something else.
    """
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, f'{path.name} is a link; remove it', str(path)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise OSError(
            errno.EPERM, f'{path.name} is no plain file, or has a second name; remove it', str(path)
        )
    return descriptor


class HeldFolder:
    """A folder that is found again after it was moved, by an open descriptor of it.

    Args:
        path: The folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def find(self) -> Path | None:
        """None if it has kept its name; else where it was moved to, or a new one if it is deleted.

        The new one has its name, or that of a sibling if another folder has taken that.
        """
        if self._is(self.path):
            return None
        try:
            present = Path(os.readlink(f'/proc/self/fd/{self._descriptor}'))
        except OSError:  # no Linux
            present = self.path
        if self._is(present):
            return present
        if os.path.lexists(self.path):
            return self.path.with_name(f'{self.path.name}.{os.getpid()}')
        return self.path

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def _is(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._descriptor))
        except OSError:
            return False


# The single steps, as functions of their own: tests make each of them fail or kill the process.


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
            # Otherwise the page cache answers, which says nothing about the disk.
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


def save_file(
    content: dict[str, Tensor], path: str | Path, meta: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, as safetensors or for ``torch.load`` by the suffix of ``path``.

    With ``meta``, ``load_file`` returns the tensors as ``state_dict`` and it beside them.

    Raises:
        ValueError: If the suffix is another one.
        NotWrittenError: If the disk refuses.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise ValueError(f'{path} must end in .pth, .pt or .safetensors')
    # safetensors takes no two tensors that share memory.
    content = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in content.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(file: IO[bytes]) -> None:
        if path.suffix == '.safetensors':
            # Its own save_file lets nobody but the owner read the file.
            file.write(save_safetensors(content, {'format': 'pt', **(meta or {})}))
        else:
            torch.save(content if meta is None else dict(state_dict=content, meta={**meta}), file)

    write_atomically(path, write, sum(tensor.nbytes for tensor in content.values()))
