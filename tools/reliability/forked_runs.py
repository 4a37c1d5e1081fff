"""Runs of ``tools/train.py`` as forks of one interpreter that has imported everything.

A run of several ranks has a launcher of its own, a fork that starts the ranks and waits for them.
"""

import atexit
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from kill_and_resume import COMPARED, HERE, differing, load_train_tool
from pause import Pause

from a2mim.engine.checkpointing import newest_checkpoint
from a2mim.engine.runner import ToolRunner
from a2mim.weights.safe_load import load_file

KINDS = {'pre-training': 'attacked_run.py', 'fine-tuning': 'attacked_classifier.py'}
Program = Callable[[Sequence[str]], None]
PAUSED_AT = 4  # of 14 iterations
LONG = 120.0  # seconds: a run that has not ended by then never does
TRY_AGAIN = 75


class AttackFailedError(AssertionError):
    """The run did not do what docs/reliability.md says."""


class NotRunError(Exception):
    """The attack needs what is not installed."""


def expect(right: object, otherwise: str) -> None:
    """Fail with ``otherwise`` unless ``right``."""
    if not right:
        raise AttackFailedError(otherwise)


def free_port() -> str:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def fork(program: Callable[[], object], log: Path, *, new_group: bool) -> int:
    """Run ``program`` in a fork and end it as Python ends; return its pid."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if new_group:
            os.setsid()
        # A shell without job control lets what it starts in the background ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        os._exit(status)


class Run:
    """A training that was started in ``folder``.

    Args:
        kind: One of ``KINDS``.
        folder: The work dir.
        options: Of ``tools/train.py``.
        workers: Data workers of each rank.
        ranks: Processes that train; more than one have a launcher.
        pause: Where it waits for an attack: an iteration or ``'val'``; None does not wait.
        before: Called in each process that trains before it does.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        *options: str,
        workers: int = 0,
        ranks: int = 1,
        pause: int | str | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.kind, self.folder, self.ranks = kind, folder, ranks
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder.parent / f'{folder.name}.log'
        for file in folder.glob('reached.*'):
            file.unlink()
        if pause is not None:
            (folder / 'pause').write_text(str(pause))
        self.arguments = self.command_line(workers, options)
        self.before = before
        if ranks == 1:
            self.pid = fork(self._train, self.log, new_group=True)
        else:
            self.port = free_port()
            self.pid = fork(self._launch, self.log, new_group=True)

    def command_line(self, workers: int, options: Sequence[str]) -> list[str]:
        """The arguments of the program."""
        settings = [f'train_dataloader.num_workers={workers}']
        if workers:
            settings += ['train_dataloader.timeout=8']
        if self.kind == 'fine-tuning':
            settings += [s.replace('train_', 'val_') for s in settings]
        config, work_dir = str(HERE / KINDS[self.kind]), str(self.folder)
        start = [config, '--work-dir', work_dir, '--resume', 'auto']
        return [*start, '--cfg-options', *settings, *options]

    def program(self) -> Program:
        """``main`` of the program that trains."""
        return load_tool()

    def _train(self) -> None:
        train = ToolRunner.train

        def paused(runner: ToolRunner) -> object:
            runner.register_hook(Pause())
            return train(runner)

        ToolRunner.train = paused
        self.before()
        self.program()(self.arguments)

    def _launch(self) -> None:
        """Start the ranks, pass signals on, end them when one has ended, leave with its code."""
        pids = []
        for rank in range(self.ranks):
            names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=self.ranks, MASTER_PORT=self.port)
            os.environ.update({name: str(value) for name, value in names.items()})
            os.environ['MASTER_ADDR'] = '127.0.0.1'
            pids.append(fork(self._train_rank, self.log, new_group=False))
        (self.folder.parent / f'{self.folder.name}.pids').write_text(' '.join(map(str, pids)))
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the group has heard it
        codes = []
        for _ in pids:
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
            if codes[0] < 0:
                break
        raise SystemExit(next((code for code in codes if code), 0))

    def _train_rank(self) -> None:
        self.arguments += ['env_cfg.dist_cfg.timeout=15']
        self.arguments = [*self.arguments[:1], '--launcher', 'pytorch', *self.arguments[1:]]
        self._train()

    def pids(self) -> list[int]:
        """Of the processes that train, by rank."""
        if self.ranks == 1:
            return [self.pid]
        file = self.folder.parent / f'{self.folder.name}.pids'
        return [int(pid) for pid in file.read_text().split()]

    def wait_for_pause(self) -> None:
        """Return when all ranks wait for the attack."""
        deadline = time.monotonic() + LONG
        while len([*self.folder.glob('reached.*')]) < self.ranks:
            expect(time.monotonic() < deadline, f'not started: {self.last_line()}')
            expect(not self._ended(), f'ended by itself: {self.last_line()}')
            time.sleep(0.02)

    def go_on(self) -> None:
        """End the pause."""
        (self.folder / 'pause').unlink()

    def signal(self, number: int) -> None:
        """Send a signal to the process group: ranks, data workers and launcher."""
        os.killpg(self.pid, number)

    def finish(self, seconds: float = LONG) -> int:
        """The exit code, negative for a signal; a run that does not end is killed and fails."""
        deadline = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AttackFailedError(f'it never ends: {self.last_line()}')
            time.sleep(0.02)
        return self._code

    _code: int | None = None

    def _ended(self) -> bool:
        if self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def last_line(self) -> str:
        """The last line of the log."""
        lines = (
            self.log.read_text(errors='replace').strip().splitlines() if self.log.exists() else []
        )
        return lines[-1][-300:] if lines else 'no output'

    def said(self, *words: str) -> bool:
        """Whether one line of the log has all ``words``."""
        lines = self.log.read_text(errors='replace').splitlines()
        return any(all(word in line for word in words) for line in lines)


@cache
def load_tool() -> Program:
    """``main`` of ``tools/train.py``."""
    return load_train_tool().main


@cache
def reference(kind: str, root: Path, ranks: int) -> dict:
    """The last checkpoint of a run that nothing disturbs."""
    run = Run(kind, root / f'undisturbed {kind} {ranks}', ranks=ranks)
    code = run.finish()
    expect(code == 0, f'the undisturbed run ends with {code}: {run.last_line()}')
    return load_file(run.folder / 'latest.pth')


def check_stopped(run: Run, at_least: int = PAUSED_AT) -> None:
    """It ends with 75, and what was trained is saved."""
    code = run.finish()
    expect(code == TRY_AGAIN, f'exit code {code}: {run.last_line()}')
    newest, skipped = newest_checkpoint(run.folder)
    expect(newest is not None and not skipped, f'saved: {newest}; {skipped}')
    iteration = load_file(newest)['meta']['iter']
    expect(iteration >= at_least, f'saved after iteration {iteration} of {at_least}')
    expect(not run.said('Traceback'), 'a traceback')


def check_resumed(run: Run, root: Path) -> None:
    """Resumed, it ends as the run that nothing disturbed, to the last bit."""
    (run.folder / 'pause').unlink(missing_ok=True)
    resumed = Run(run.kind, run.folder, ranks=run.ranks)
    code = resumed.finish()
    expect(code == 0, f'resumed: exit code {code}: {resumed.last_line()}')
    final, last = reference(run.kind, root, run.ranks), load_file(run.folder / 'latest.pth')
    wrong = [name for part in COMPARED for name in differing(final[part], last[part], part)]
    expect(not wrong, f'{len(wrong)} entries differ after the resume, such as {wrong[:1]}')


def data_workers(pid: int) -> list[int]:
    """Pids of the children of a process (Linux)."""
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(child) for child in text.split()]


torch.set_num_threads(1)  # no thread may run when a process is forked
