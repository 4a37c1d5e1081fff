"""Write a file in spite of a short trouble of the disk, or say exactly why it cannot be done."""

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from a2mim.checkpoint.atomic_file import CheckedFile, write_atomically

# Someone may make room, a network or a device may come back; a missing folder or right will not.
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


class NotWrittenError(OSError):
    """A file could not be written; the one that had its name before is whole."""


def write_patiently(
    path: Path, write: Callable[[CheckedFile], object], needed: int, *, advice: str
) -> int:
    """``write_atomically`` with a look at the free space first, and two more attempts.

    Args:
        path: File to write.
        write: As for ``write_atomically``; called once per attempt.
        needed: Bytes that the file takes at least.
        advice: What to do if the file cannot be written, a sentence.

    Returns:
        Size of the file in bytes.

    Raises:
        NotWrittenError: If it cannot be written.
    """
    for wait in (*WAITS, None):
        try:
            check_room(path.parent, needed)
            return write_atomically(path, write)
        except OSError as error:
            if wait is None or error.errno not in TRANSIENT:
                raise NotWrittenError(explain(path, error, needed, advice)) from error
        time.sleep(wait)
    raise AssertionError('the last attempt returns or raises')


def check_room(folder: Path, needed: int) -> None:
    """Notice a full disk before the first byte is written.

    Raises:
        OSError: If fewer than ``needed`` bytes are free.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, 'the disk is full')


def explain(path: Path, error: OSError, needed: int, advice: str) -> str:
    """The whole sentence: which file, why, how much room there is and is needed, what to do."""
    try:
        free = f'{shutil.disk_usage(path.parent).free:,} are free'
    except OSError:
        free = f'{path.parent} cannot be examined'
    reason = error.strerror or str(error)
    return f'{path} could not be written: {reason} ({needed:,} bytes needed, {free}). {advice}'
