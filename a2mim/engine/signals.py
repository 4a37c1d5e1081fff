"""On SIGTERM, SIGINT, SIGHUP or SIGUSR1: finish the step, save a checkpoint, exit with code 75.

A second signal ends the process at once, even while Python waits for a kernel or a collective. A
handler in Python runs between two of its own instructions, and once for all signals of a kind that
came in before: it would miss the second one, or run only after the wait that made someone send it.
So a thread reads them from ``signal.set_wakeup_fd``.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import cast

from mmengine.dist import barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.guard import GuardedStep, UpdateGuard
from a2mim.engine.loops import StopRequestedError, find_saver
from a2mim.engine.workers import STOP_SIGNALS
from a2mim.errors import DIED_OF_SIGNAL, TRY_AGAIN
from a2mim.registry import HOOKS

Handler = Callable[[int, FrameType | None], object] | int | None
# One request may arrive twice: from SLURM and from srun, or from a process group and torchrun. A
# person who presses Ctrl-C again means it.
ECHO = 2.0  # seconds
ECHO_OF_A_KEY = 0.2
PATIENCE = 10.0  # seconds in which a batch should come that a run waits for when it is to stop


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise SystemExit, so that it can clean up.

    A library that takes this for an error of its own, as mmengine does while it formats a config,
    does not change the exit code.
    """
    heard: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise SystemExit(DIED_OF_SIGNAL + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, leave) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    except Exception as error:
        if heard:
            raise SystemExit(DIED_OF_SIGNAL + heard[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SecondSignal:
    """A thread that ends the process at the second of some signals.

    It comes ``ECHO`` seconds or more after the first, SIGINT ``ECHO_OF_A_KEY`` seconds. Where none
    comes, the main thread gets SIGALRM each second from ``PATIENCE`` seconds on, for which it has a
    handler.

    Args:
        numbers: Signals, each with a handler in Python.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers, self._main = set(numbers), threading.get_ident()
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Restore the signal handlers; Python allows it in the main thread only."""
        signal.set_wakeup_fd(self._previous)
        self._told.shutdown(socket.SHUT_WR)  # forked workers hold it, too
        self._told.close()
        self._thread.join()

    def _listen(self) -> None:
        first = None
        with self._heard:
            while numbers := self._receive(first):
                now = time.monotonic()
                for number in self._numbers.intersection(numbers):
                    first = now if first is None else first
                    echo = ECHO_OF_A_KEY if number == signal.SIGINT else ECHO
                    if now - first >= echo:
                        os._exit(DIED_OF_SIGNAL + number)

    def _receive(self, first: float | None) -> bytes:
        """The next signals; until then remind the main thread of a first one that is old."""
        while True:
            if first is not None:
                self._heard.settimeout(max(1.0, first + PATIENCE - time.monotonic()))
            try:
                return self._heard.recv(64)
            except TimeoutError:
                signal.pthread_kill(self._main, signal.SIGALRM)


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Stop on any of ``STOP_SIGNALS``, on all processes after the same update.

    The request travels with the verdict of the finite guard. Then the checkpoint of this very
    iteration is saved and the process ends with code 75; what is due at the end of an epoch, the
    resumed run does. A process that runs by itself and waits for data saves the state before the
    batch; one of several does so after ``PATIENCE`` seconds, by when the batch may have come. A
    signal during validation is honoured after it, since the model may hold averaged weights then. A
    second signal ends the process at once: the last checkpoint stays as it is.
    """

    # After the others, which have finished the iteration when the checkpoint is made.
    priority = 'LOWEST'
    only_looks = True

    def __init__(self) -> None:
        self._previous: dict[int, Handler] = {}
        self._second: SecondSignal | None = None
        self._guard: UpdateGuard | None = None

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers, which Python allows in the main thread only.

        Raises:
            ValueError: If the run has no guard to carry the request.
        """
        self._guard = getattr(runner.optim_wrapper, 'guard', None)
        if self._guard is None:
            raise ValueError(
                'default_hooks.stop_signal needs default_hooks.guard, by which all processes agree '
                'to stop: set both to None, or neither'
            )
        self._runner = runner
        if threading.current_thread() is threading.main_thread():
            # nohup and shells without job control let their children ignore some.
            numbers = [n for n in STOP_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._heard) for number in numbers}
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._waited)
            self._second = SecondSignal(numbers)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
    ) -> None:
        """Save and exit once all processes have agreed to stop and the state can be saved."""
        guard = cast(GuardedStep, runner.optim_wrapper).guard
        if guard is None or not guard.stop_agreed:
            return
        saver = find_saver(runner)
        if saver is not None and not saver.can_save(runner):
            return
        guard.settle()
        path = None if saver is None else saver.save_now(runner)
        # The exit of the first process makes the launcher end the others.
        barrier()
        self.finish(runner)
        saved = 'nothing is saved, without a CheckpointHook' if path is None else f'{path} is saved'
        runner.logger.info(
            f'stopped by a signal after iteration {runner.iter + 1}: {saved}; --resume auto '
            f'continues (exit code {TRY_AGAIN})'
        )
        raise SystemExit(TRY_AGAIN)

    def after_train(self, runner: Runner) -> None:
        """Restore the default effect of signals after training."""
        self.finish(runner)

    def finish(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        if self._second is not None:
            self._second.stop()
            self._second = None
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # No line in the log: it may be writing one at this very moment.
        if self._guard is None or self._guard.stop_requested:
            return
        self._guard.stop_requested = True
        saver = find_saver(self._runner)
        if get_world_size() == 1 and (saver is None or saver.can_save(self._runner)):
            self._waited(number, frame)

    def _waited(self, number: int, frame: FrameType | None) -> None:
        """Leave the wait for data, if there is one."""
        if getattr(self._runner.train_loop, 'waiting', False):
            raise StopRequestedError
