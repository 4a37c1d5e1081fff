"""The lock of a run's folder: two runs cannot write into one work dir at the same time.

The kernel frees it at any end of the process that holds it, SIGKILL and power cut included, so
that a lock that is left behind is never in the way. ``flock`` holds on local disks, and between
machines on NFS from Linux 2.6.12 on and on Lustre mounted with ``flock``; a file system that
knows no locks is not protected, and the log says so.
"""

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TextIO

NAME = '.lock'
# A job that was told to end may still be writing its last checkpoint when its successor starts.
PATIENCE = 10.0  # seconds
REMEDY = 'wait for its end or stop it, or give this run another --work-dir'
INTERVAL = 0.2  # seconds from one try to the next
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class WorkDirLock:
    """A lock that a run takes once it knows its folder, and gives back when the block ends.

    The first process of a run holds it for all of them.

    Args:
        patience: Seconds to wait for a run that is about to end.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._file: TextIO | None = None

    def __enter__(self) -> 'WorkDirLock':
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def take(self, work_dir: str) -> str | None:
        """Create ``work_dir`` and lock it; return a line for the log if it cannot be locked.

        Raises:
            ValueError: If another run holds the lock, with what it says about itself.
            OSError: If nothing can be written there.
        """
        path = Path(work_dir, NAME)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open('a+', encoding='utf-8')
        except OSError as error:
            raise OSError(
                f'the work dir {work_dir} cannot be written ({error.strerror}); give another '
                '--work-dir'
            ) from error
        if not self._wait(work_dir):
            return f'{work_dir}: its file system has no locks; start one run there at a time'
        self._file.truncate(0)
        self._file.write(f'host {socket.gethostname()}, process {os.getpid()}, since {now()}\n')
        self._file.flush()
        return None

    def _wait(self, work_dir: str) -> bool:
        """Try until the lock is ours; False where there is none to have."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno in UNKNOWN:
                    return False
                if error.errno not in TAKEN:
                    raise
            if time.monotonic() > deadline:
                raise ValueError(f'another run trains in {work_dir} ({self._owner()}); {REMEDY}')
            time.sleep(INTERVAL)

    def _owner(self) -> str:
        """What the holder wrote; the file is closed, since it is not ours."""
        with self._file as file:
            file.seek(0)
            owner = file.read().strip()
        self._file = None
        return owner or 'it has just started'


def now() -> str:
    """Date and time of this machine."""
    return time.strftime('%Y-%m-%d %H:%M:%S')
