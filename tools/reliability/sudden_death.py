"""Kill processes with SIGKILL, after a time or within a write.

A process is forked from a parent that has imported everything and started no thread, which costs a
second less than a new interpreter. Within it, one step of ``a2mim.weights.files`` is
replaced by one that kills.
"""

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from a2mim.weights import files

STEPS = ('put', 'to_disk', 'verify', 'rename', 'sync_folder')


def run_forked(program: Callable[[], object], log: Path, delay: float | None) -> int:
    """Run ``program`` in a fork, killed after ``delay`` seconds if it is not done; its exit status.

    Returns:
        0 if it was done, -9 if it was killed, 1 if it failed; its output is in ``log``.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            program()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    end = None if delay is None else time.monotonic() + delay
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.005)


def die() -> None:
    """What the kernel does to a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def count_steps(counts: dict[str, int]) -> None:
    """Count the calls of every step in this process."""
    for name in STEPS:
        original = getattr(files, name)

        def counted(*args: object, name: str = name, original: Callable = original) -> object:
            counts[name] = counts.get(name, 0) + 1
            return original(*args)

        setattr(files, name, counted)


def die_within_a_write(step: str, call: int, moment: str, rng: random.Random) -> None:
    """Let this process die ``'before'``, ``'within'`` or ``'after'`` a certain call of ``step``.

    Only a write (``put``) has a within: some of its bytes are on their way.
    """
    original, calls = getattr(files, step), 0
    share = rng.random()

    def fatal(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls < call:
            return original(*args)
        if moment == 'within':
            file, data = args
            file.write(memoryview(data).cast('B')[: int(share * memoryview(data).nbytes)])
            file.flush()
        elif moment == 'after':
            original(*args)
        die()

    setattr(files, step, fatal)


def choose_death(rng: random.Random, counts: dict[str, int], share: float) -> dict[str, object]:
    """A step, one of its calls in the first ``share`` of a run, and the moment."""
    step = rng.choice(STEPS)
    moments = ('before', 'within', 'after') if step == 'put' else ('before', 'after')
    calls = max(1, round(counts[step] * share))
    return dict(step=step, call=rng.randint(1, calls), moment=rng.choice(moments))
