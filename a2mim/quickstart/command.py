"""The three parts of the quick start, in as many processes as there are cores."""

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import cast

import torch

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.signals import ending_on_signals
from a2mim.errors import TRY_AGAIN
from a2mim.options import usable_cores
from a2mim.quickstart.look import look
from a2mim.quickstart.page import STUDY, read_all, write_page
from a2mim.quickstart.take import take
from a2mim.study import Study, check_study, read_study, run_study
from a2mim.study.results import check_folder

MOST = 8  # processes
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SIGNALLED = 128  # the code of a command that a signal ended is this plus its number
Job = tuple[str, Callable[[Callable[[str], object]], object]]


def say(text: str) -> None:
    """Tell the person who started the command."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


def start(folder: Path, seeds: Sequence[int]) -> None:
    """All three parts."""
    started, study = time.perf_counter(), read_study(STUDY, seeds)
    check_study(study)
    check_folder(folder / 'prove', study)
    jobs: list[Job] = [('look', partial(look, folder / 'look', folder / 'pictures', seeds[0]))]
    # A second one takes the place of the first part, once that is done.
    jobs += [
        (f'prove {number}', partial(prove, study, folder / 'prove')) for number in range(cores())
    ]
    work(jobs, folder / 'logs')
    say(write_page(folder, read_all(folder, study)))
    take(folder / 'look/latest.pth', folder / 'take', say)
    say(
        f'{time.perf_counter() - started:.0f} s in all. Look at {folder}/pictures/ and at '
        f'{folder}/quickstart.md'
    )


def prove(study: Study, folder: Path, tell: Callable[[str], object]) -> None:
    """Run what the study lacks, beside other processes that do the same."""
    run_study(study, folder, tell=tell)


def work(jobs: Sequence[Job], logs: Path) -> None:
    """Do ``jobs``, as many at a time as there are cores, each in a process forked from this one.

    What they need is imported already, which takes seconds. Their logs go to files; a job that
    fails ends the others.

    Raises:
        SystemExit: With the exit code of a job that failed, or ``TRY_AGAIN`` after a signal.
    """
    logs.mkdir(parents=True, exist_ok=True)
    context = context_of_children()
    waiting, running = deque(jobs), dict[BaseProcess, Path]()
    failed: tuple[BaseProcess, Path] | None = None
    with forwarding(running) as heard:
        while running or (waiting and not heard and failed is None):
            while waiting and len(running) < cores() and not heard and failed is None:
                name, task = waiting.popleft()
                log = logs / f'{name.replace(" ", "")}.log'
                process = context.Process(target=_child, args=(task, log), name=name)
                process.start()
                running[process] = log
            wait([process.sentinel for process in running], timeout=1)
            for process in [one for one in running if one.exitcode is not None]:
                log = running.pop(process)
                if process.exitcode and failed is None:
                    failed = process, log
                    _send(running, signal.SIGTERM)
    if heard:
        say('stopped by a signal; the same command resumes')
        raise SystemExit(TRY_AGAIN)
    if failed is not None:
        code, log = failed[0].exitcode or 0, failed[1]
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        sys.stderr.write(f'{failed[0].name} failed, see {log}: {(lines or [""])[-1]}\n')
        raise SystemExit(code if code > 0 else SIGNALLED - code)


def context_of_children() -> ForkContext:
    """How jobs start: forked, or afresh where there is a GPU: CUDA does not survive a fork."""
    method = 'spawn' if torch.cuda.is_available() else 'fork'
    return cast(ForkContext, multiprocessing.get_context(method))


def cores() -> int:
    """How many processes run at a time."""
    return min(MOST, usable_cores())


@contextmanager
def forwarding(running: dict[BaseProcess, Path]) -> Iterator[list[int]]:
    """Within the block the signals of ``STOP`` go to the running processes, which save and end."""
    heard: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        _send(running, number)

    numbers = [n for n in STOP if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(running: dict[BaseProcess, Path], number: int) -> None:
    for process in list(running):
        if process.pid is not None and process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _child(task: Callable[[Callable[[str], object]], object], log: Path) -> None:
    """A job in its process, whose output goes to ``log`` but for what it tells the person."""
    for number in STOP:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    console = os.fdopen(os.dup(1), 'w', buffering=1, encoding='utf-8')
    with log.open('a', encoding='utf-8') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    with one_line_errors(), ending_on_signals():
        task(lambda line: console.write(f'  {line}\n'))
