"""The data workers of a run: they ignore signals, and a wait for a missing one ends.

Batch systems send a signal to every process of a job. Workers leave it to the process that trains,
which ends them itself. torch raises the death of a worker wherever the training is, in the middle
of an update too; here it is raised while the training waits for a batch, where the state is whole.
"""

import atexit
import multiprocessing
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

from torch.utils.data import DataLoader

from a2mim.errors import MissingError

# What asks a run to stop; those of them that may be ignored when it starts, as by nohup.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
PATIENCE = 600  # seconds to wait for a batch, unless the loader has a ``timeout``


class WorkerStart:
    """The ``worker_init_fn`` of a worker that ignores ``STOP_SIGNALS``; it can be pickled.

    Args:
        init: Called with the number of the worker afterwards.
    """

    def __init__(self, init: Callable[[int], object] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        """Prepare the worker of that number."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        sys.excepthook = say_unless_left
        if self.init is not None:
            self.init(worker)


def say_unless_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The ``sys.excepthook`` of a worker, whose thread hands batches over.

    A process that a signal stops, or ends, while it takes one leaves the connection.
    """
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


class WorkerDeaths:
    """A handler of SIGCHLD that looks for dead workers only while a batch is waited for.

    Args:
        check: torch's handler, which raises an error if a worker has died.
    """

    def __init__(self, check: Callable[[int, FrameType | None], object]) -> None:
        self.check, self.waiting = check, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A child has ended."""
        if self.waiting:
            self.check(number, frame)

    @classmethod
    def installed(cls) -> 'WorkerDeaths':
        """The handler of this process; in a thread, which may set none, one that finds nothing."""
        present = signal.getsignal(signal.SIGCHLD)
        if isinstance(present, cls):
            return present
        if not callable(present) or threading.current_thread() is not threading.main_thread():
            return cls(lambda *_: None)
        handler = cls(present)
        signal.signal(signal.SIGCHLD, handler)
        return handler


class PatientLoader(DataLoader):
    """A ``DataLoader`` whose workers ignore signals and whose waits end.

    It adds behaviour only, so that a loader that is built already becomes one by its class. The
    iterator raises ``MissingError`` if a worker dies, or returns nothing for ``timeout`` seconds
    (``PATIENCE`` where the loader has none); that of a loader without workers is torch's.
    """

    latest: weakref.ref | None = None  # torch's iterator of the latest pass with workers

    def __iter__(self) -> Iterator:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One pass through the data."""
        if self.num_workers == 0:
            return super().__iter__()
        if not isinstance(self.worker_init_fn, WorkerStart):
            self.worker_init_fn = WorkerStart(self.worker_init_fn)
        self.timeout = self.timeout or PATIENCE
        return Batches(self, super().__iter__)

    def end_workers(self) -> None:
        """End persistent workers, and those of a pass that was left; another pass starts new ones.

        Python's collector of cycles would close their queues before torch tells them to end. They
        would not hear of it, nor of the SIGTERM that follows: torch waits 10 seconds for each.
        """
        batches = self.latest and self.latest()
        if batches is not None:
            batches._shutdown_workers()
        self._iterator = None


class Batches:
    """The batches of one pass, from workers.

    Args:
        loader: The loader.
        start: Makes torch's iterator, and the workers unless they are there.
    """

    def __init__(self, loader: PatientLoader, start: Callable[[], Iterator]) -> None:
        self._loader, self._start = loader, start
        self._batches: Any = getattr(loader, '_iterator', None)  # with persistent workers
        self._batches = self._wait(start if self._batches is not None else self._start_workers)
        loader.latest = weakref.ref(self._batches)

    def __iter__(self) -> 'Batches':
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        return self._wait(lambda: next(self._batches))

    def _start_workers(self) -> Iterator:
        """Start them with signals blocked, until each ignores them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            context = self._loader.multiprocessing_context or multiprocessing
            if cast(Any, context).get_start_method() != 'fork':
                # It would unblock some of them while the first worker starts.
                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            return self._start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self, call: Callable[[], Any]) -> Any:
        deaths = WorkerDeaths.installed()
        try:
            with time_limit(self._loader.timeout):
                try:
                    deaths.waiting = True
                    deaths.check(signal.SIGCHLD, None)  # a worker that died since the last wait
                    return call()
                finally:
                    deaths.waiting = False
        except (RuntimeError, ConnectionError, EOFError) as error:
            missing = self._missing(error)
            if missing is None:
                raise
            raise MissingError(missing) from error

    def _missing(self, error: Exception) -> str | None:
        """Which worker is missing; None if ``error`` has another cause."""
        text = str(error)
        if 'timed out' in text:
            return (
                f'{self._awaited()} has returned nothing for {self._loader.timeout:g} s: does the '
                'storage answer? The loader waits for as long as its entry timeout says'
            )
        if isinstance(error, RuntimeError) and not text.startswith('DataLoader worker'):
            return None
        reason = text.strip().rstrip('.') or 'it has closed its connection'
        return (
            f'{self._dead()} has died ({reason}): the kernel kills one where memory runs out; '
            'fewer num_workers or a smaller prefetch_factor need less of it'
        )

    def _dead(self) -> str:
        """The worker that has ended."""
        workers = getattr(self._batches, '_workers', [])
        number = next((n for n, each in enumerate(workers) if not each.is_alive()), None)
        if number is None:
            return 'a data worker'
        return f'data worker {number} (pid {workers[number].pid})'

    def _awaited(self) -> str:
        """The worker that is stopped, or the one from which the next batch has to come."""
        torchs = self._batches
        try:
            workers = torchs._workers
            stopped = [number for number, each in enumerate(workers) if is_stopped(each.pid)]
            number = stopped[0] if stopped else torchs._task_info[torchs._rcvd_idx][0]
            return f'data worker {number} (pid {workers[number].pid})'
        except (AttributeError, KeyError, IndexError):  # torch keeps it for itself
            return f'one of the {self._loader.num_workers} data workers'


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``RuntimeError`` in the block after so many seconds; in the main thread only.

    torch's ``timeout`` ends the wait for a message, not that for the memory of a batch which a
    worker has announced before it stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end = time.monotonic() + seconds

    def ring(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= end:
            raise RuntimeError('DataLoader timed out')
        if callable(before):
            before(number, frame)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds + 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or a debugger; False where there is no ``/proc``."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] in 'Tt'
    except OSError:
        return False


def end_workers() -> None:
    """Kill the workers of this process, which would ignore what asks them to end."""
    WorkerDeaths.installed()  # in place of torch's handler, which would raise an error
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
            child.join()


# multiprocessing waits for them at the end of Python: this comes before.
atexit.register(end_workers)
