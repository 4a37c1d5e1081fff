"""Attacks on the processes of a run: signals, dead and hung data workers, ranks and launchers."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from forked_runs import (
    KINDS,
    PAUSED_AT,
    Run,
    check_resumed,
    check_stopped,
    data_workers,
    expect,
)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def signal_group(
    root: Path, folder: Path, kind: str, number: int, workers: int, ranks: int
) -> None:
    """A signal to all processes at once, as batch systems, systemd and ``timeout`` send it."""
    run = Run(kind, folder, workers=workers, ranks=ranks, pause=PAUSED_AT)
    run.wait_for_pause()
    run.signal(number)
    run.go_on()
    check_stopped(run)
    if number == signal.SIGTERM:  # the others take the same way
        check_resumed(run, root)


def signal_in_validation(root: Path, folder: Path, workers: int, ranks: int) -> None:
    """A signal to all processes while they validate."""
    run = Run('fine-tuning', folder, workers=workers, ranks=ranks, pause='val')
    run.wait_for_pause()
    run.signal(signal.SIGTERM)
    run.go_on()
    check_stopped(run, at_least=4)
    check_resumed(run, root)


def signal_workers(root: Path, folder: Path, kind: str) -> None:
    """Signals to a data worker alone: it ignores them, and the run completes."""
    run = Run(kind, folder, workers=2, pause=PAUSED_AT)
    run.wait_for_pause()
    for number, pid in product(SIGNALS, data_workers(run.pid)):
        os.kill(pid, number)
    run.go_on()
    code = run.finish()
    expect(code == 0, f'exit code {code}: {run.last_line()}')
    check_resumed(run, root)


def second_signal(root: Path, folder: Path) -> None:
    """A second Ctrl-C ends a run at once."""
    run = Run('pre-training', folder, workers=2, pause=PAUSED_AT)
    run.wait_for_pause()
    run.signal(signal.SIGINT)
    time.sleep(0.5)
    run.signal(signal.SIGINT)
    code = run.finish(seconds=10)
    expect(code == 128 + signal.SIGINT, f'exit code {code}')


def lose_worker(
    root: Path, folder: Path, kind: str, number: int, ranks: int, place: int | str = PAUSED_AT
) -> None:
    """The kernel kills a data worker (SIGKILL), or it hangs (SIGSTOP)."""
    run = Run(kind, folder, workers=2, ranks=ranks, pause=place)
    run.wait_for_pause()
    lost = data_workers(run.pids()[-1])[0 if place == PAUSED_AT else -1]
    os.kill(lost, number)
    run.go_on()
    check_stopped(run)
    expect(run.said('data worker', str(lost)), f'no line names worker {lost}')
    check_resumed(run, root)


def stop_while_worker_hangs(root: Path, folder: Path, kind: str) -> None:
    """A signal to a run that waits for a data worker that hangs."""
    run = Run(kind, folder, 'train_dataloader.timeout=100', workers=1, pause=PAUSED_AT)
    run.wait_for_pause()
    os.kill(data_workers(run.pid)[0], signal.SIGSTOP)
    run.go_on()
    time.sleep(3)
    run.signal(signal.SIGTERM)
    check_stopped(run)
    check_resumed(run, root)


def lose_rank(root: Path, folder: Path, kind: str, number: int, rank: int) -> None:
    """One of two ranks is killed (SIGKILL) or stops (SIGSTOP)."""
    run = Run(kind, folder, ranks=2, pause=PAUSED_AT)
    run.wait_for_pause()
    lost = run.pids()[rank]
    os.kill(lost, number)
    run.go_on()
    try:
        time.sleep(0.1)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not run.said(f'rank {rank} has stopped or left'):
            time.sleep(0.1)
    finally:
        if number == signal.SIGSTOP:
            os.kill(lost, signal.SIGKILL)
    run.finish()
    expect(run.said(f'rank {rank} has stopped or left', '75'), f'it says: {run.last_line()}')
    expect([*folder.glob('iter_*.pth')], 'nothing is saved')
    check_resumed(run, root)


def kill_launcher(root: Path, folder: Path, kind: str) -> None:
    """The launcher of two ranks is killed: they save and leave."""
    run = Run(kind, folder, ranks=2, pause=PAUSED_AT)
    run.wait_for_pause()
    os.kill(run.pid, signal.SIGKILL)
    run.finish()
    time.sleep(2)
    run.go_on()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(map(is_alive, run.pids())):
        time.sleep(0.1)
    expect(not any(map(is_alive, run.pids())), 'ranks train on without their launcher')
    expect([*folder.glob('iter_*.pth')], 'nothing is saved')
    check_resumed(run, root)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def cases() -> list[tuple[str, Callable[[Path, Path], None]]]:
    """Name and function of each attack; a function gets the root folder and one of its own."""
    found: list[tuple[str, Callable[[Path, Path], None]]] = []
    for kind, number, workers, ranks in product(KINDS, SIGNALS, (0, 2), (1, 2)):
        options = dict(kind=kind, number=number, workers=workers, ranks=ranks)
        name = f'{kind}: {number.name} to the group, {workers} workers, {ranks} rank(s)'
        found.append((name, partial(signal_group, **options)))
    for workers, ranks in ((0, 1), (2, 1), (2, 2)):
        name = f'fine-tuning: SIGTERM in the validation, {workers} workers, {ranks} rank(s)'
        found.append((name, partial(signal_in_validation, workers=workers, ranks=ranks)))
    found.append(('pre-training: SIGINT twice', second_signal))
    lost = {'killed': signal.SIGKILL, 'hangs': signal.SIGSTOP}
    for kind in KINDS:
        found.append((f'{kind}: signals to data workers', partial(signal_workers, kind=kind)))
        for (word, number), ranks in product(lost.items(), (1, 2)):
            options = dict(kind=kind, number=number, ranks=ranks)
            name = f'{kind}: a data worker of {ranks} rank(s) {word}'
            found.append((name, partial(lose_worker, **options)))
        name = f'{kind}: SIGTERM while a data worker hangs'
        found.append((name, partial(stop_while_worker_hangs, kind=kind)))
        for (word, number), rank in product(lost.items(), (0, 1)):
            options = dict(kind=kind, number=number, rank=rank)
            found.append((f'{kind}: rank {rank} of 2 {word}', partial(lose_rank, **options)))
        found.append((f'{kind}: the launcher is killed', partial(kill_launcher, kind=kind)))
    for word, number in lost.items():
        options = dict(kind='fine-tuning', number=number, ranks=1, place='val')
        name = f'fine-tuning: a data worker {word} in the validation'
        found.append((name, partial(lose_worker, **options)))
    return found
