"""torchrun, which ends as the program in its processes has ended.

A tool of this repository has said in one line why it ends with a code of its own; torchrun would
follow up with a page of its own traceback and exit code 1. A signal is passed on to the processes,
which save and leave by themselves, as they do if one of them is killed. ``torchrun
--signals-to-handle`` is no replacement: it too kills what has not ended in time, and it ends
without the exit code of the program. ``--master_port=free`` takes a port that nobody listens on, so
that two runs on one machine do not meet.
"""

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

from torch.distributed import DistNetworkError
from torch.distributed.elastic import multiprocessing
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from a2mim.engine.workers import STOP_SIGNALS
from a2mim.errors import (
    DIED_OF_SIGNAL,
    INTERRUPTED,
    NOT_FINITE,
    NOT_WRITTEN,
    TRY_AGAIN,
    USER_ERROR,
)

GRACE = 120  # seconds
SPOKEN_FOR = (TRY_AGAIN, NOT_FINITE, NOT_WRITTEN, USER_ERROR)


class ForwardingContext(multiprocessing.SubprocessContext):
    """The processes of this machine, which hear ``STOP_SIGNALS`` as torchrun does.

    Attributes:
        heard: The number of the signal that was passed on last, 0 for none.
    """

    heard = 0

    def start(self) -> None:
        """Start them, and pass signals on from here on; what nohup ignores stays ignored."""
        ignored = [n for n in STOP_SIGNALS if signal.getsignal(n) == signal.SIG_IGN]
        super().start()
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else self._pass_on)

    def _close(self, death_sig: signal.Signals, timeout: int = 30) -> None:
        """End the processes that are left, which may have to save; one that was stopped as well."""
        for pid in self.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        super()._close(death_sig, max(timeout, GRACE))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        ForwardingContext.heard = number
        for pid in self.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def choose_port(arguments: list[str]) -> list[str]:
    """``arguments`` of torchrun with the number of a free port in the place of ``free``."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return [f'--master_port={port}' if one == '--master_port=free' else one for one in arguments]


if __name__ == '__main__':
    # It reports which process was stopped or failed first; the error below says it again.
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    multiprocessing.SubprocessContext = ForwardingContext
    arguments = choose_port(sys.argv[1:])
    try:
        main(arguments)
    except ChildFailedError as error:
        # The others have been stopped because of the first.
        rank, first = error.get_first_failure()
        if first.exitcode in SPOKEN_FOR:
            raise SystemExit(first.exitcode) from None
        if ForwardingContext.heard and first.exitcode in (INTERRUPTED, -ForwardingContext.heard):
            # Before the first step a signal has its usual effect.
            raise SystemExit(DIED_OF_SIGNAL + ForwardingContext.heard) from None
        saved = any(failure.exitcode == TRY_AGAIN for failure in error.failures.values())
        if first.exitcode < 0 and saved:
            sys.stderr.write(f'error: rank {rank} was killed by signal {-first.exitcode}\n')
            raise SystemExit(TRY_AGAIN) from None
        raise
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except SignalException as error:  # before the processes are started
        raise SystemExit(DIED_OF_SIGNAL + error.sigval) from None
    except DistNetworkError as error:
        words = [one for one in arguments if one.startswith('--master_')]
        reason = str(error).splitlines()[0]
        sys.stderr.write(
            f'error: the processes cannot use {" ".join(words)} ({reason}); pass a free port as '
            'PORT=NUMBER, the same on every machine\n'
        )
        raise SystemExit(USER_ERROR) from error
