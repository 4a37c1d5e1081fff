"""Tell a storage that does not answer from a file that is damaged, and wait for the former.

A network file system that is away for a moment gives the errors of a missing or broken file. A file
is at fault only if others beside it can be read.
"""

import errno
import os
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import TypeVar

from mmengine.logging import MMLogger

from a2mim.errors import StorageError

PATIENCE = 300.0  # seconds for which a storage that does not answer is asked again
# Seconds for which a file is asked again while others can be read: a server may lose some of them.
GRACE = 7.5
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between two attempts; then the last one again and again
_NAMES = (
    'EIO ESTALE ETIMEDOUT EREMOTEIO EKEYEXPIRED ENOTCONN ECONNRESET ECONNREFUSED ECONNABORTED '
    'EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENETRESET ESHUTDOWN EPIPE ENXIO ENODEV ENOMEDIUM '
    'ENOLINK ECOMM EPROTO EAGAIN EBUSY EINTR'
)
# A device or a server does not answer; not every system has each of them.
SILENT = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
# There is nothing under the name, be it that the file or that all of its folders are away.
ABSENT = {errno.ENOENT, errno.ENOTDIR}

T = TypeVar('T')


class Storage:
    """What holds the images of a source: a folder or an archive, on a disk or a server.

    Args:
        where: The folder or archive, for messages.
        patience: Seconds for which a storage that does not answer is asked again; 0 for never.
    """

    def __init__(self, where: str, patience: float = PATIENCE) -> None:
        self.where, self.patience = where, patience
        self._lost: set[str] = set()  # missing folders that were waited for in vain

    def read(self, read: Callable[[], T], answers: Callable[[], bool]) -> T:
        """Call ``read`` again, after longer and longer waits, while the storage does not answer.

        Args:
            read: Reads one file.
            answers: Whether other files of the storage can be read now.

        Returns:
            What ``read`` returns.

        Raises:
            OSError: If the file is at fault: others can be read.
            StorageError: If none can be read for ``patience`` seconds.
        """
        start, told = time.monotonic(), False
        for wait in chain(WAITS, repeat(WAITS[-1])):
            try:
                return read()
            except OSError as error:
                waited = time.monotonic() - start
                if error.errno not in SILENT | ABSENT:
                    raise
                if answers():
                    if self._is_at_fault(error, waited):
                        raise
                elif waited >= self.patience:
                    raise StorageError(
                        f'the storage of {self.where!r} does not answer ({error}), asked for '
                        f'{waited:.0f} s'
                    ) from error
                elif not told:
                    told = True
                    MMLogger.get_current_instance().warning(
                        f'the storage of {self.where!r} does not answer ({error}): it is asked '
                        f'again for up to {self.patience:.0f} s'
                    )
                time.sleep(min(wait, max(0.1, self.patience - waited)))
        raise AssertionError('the waits have no end')

    def _is_at_fault(self, error: OSError, waited: float) -> bool:
        """Whether a file that cannot be read while others can will not come back in a moment.

        A file that is missing from its folder will not. One whose folder is missing may, unless
        that folder was waited for before.
        """
        folder = os.path.dirname(os.fspath(error.filename or ''))
        if error.errno in ABSENT and (os.path.isdir(folder or os.curdir) or folder in self._lost):
            return True
        if waited < min(GRACE, self.patience):
            return False
        if error.errno in ABSENT:
            self._lost.add(folder)
        return True
