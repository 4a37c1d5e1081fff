"""Leave at a second signal even while Python waits for a kernel or a collective.

Python runs a handler between two of its own instructions, and once for all signals of a kind that
came in before: it would not see the second one, or only after the wait that made someone send it.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Sequence

# One request may arrive twice: from SLURM and from srun, or from a process group and torchrun.
ECHO = 2.0  # seconds
DIED_OF_SIGNAL = 128  # the code of a process that a signal ended is this plus its number


class SecondSignal:
    """A thread that ends the process at the second of some signals, ``ECHO`` seconds or more later.

    Args:
        numbers: Signals, each with a handler in Python.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = set(numbers)
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """Give the signals back; from the main thread, as Python wants it."""
        signal.set_wakeup_fd(self._previous)
        self._told.close()

    def _listen(self) -> None:
        first = None
        with self._heard:
            while numbers := self._heard.recv(64):
                now = time.monotonic()
                for number in self._numbers.intersection(numbers):
                    first = now if first is None else first
                    if now - first >= ECHO:
                        os._exit(DIED_OF_SIGNAL + number)
