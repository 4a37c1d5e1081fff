"""Attacks on commands as a person starts them: the launcher, the quick start, make_shards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import skimage.data
from forked_runs import LONG, TRY_AGAIN, expect, free_port
from kill_and_resume import HERE
from PIL import Image

from a2mim.engine.checkpointing import newest_checkpoint

ROOT = HERE.parents[1]


@contextmanager
def command(log: Path, *words: object) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own, which does not outlive the block."""
    environment = dict(PYTHON=sys.executable, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    environment |= dict(PORT=free_port(), CUDA_VISIBLE_DEVICES='')
    with log.open('wb') as output:
        process = subprocess.Popen(
            [*map(str, words)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(found: Callable[[], object], what: str, seconds: float = LONG) -> None:
    """Fail unless it comes true."""
    deadline = time.monotonic() + seconds
    while not found():
        expect(time.monotonic() < deadline, f'{what}: not within {seconds:.0f} s')
        time.sleep(0.05)


def trains(log: Path) -> bool:
    """Whether a run has logged an iteration."""
    return log.is_file() and 'Epoch(train)' in log.read_text(errors='replace')


def dist_train(folder: Path, number: int) -> None:
    """A signal to the launcher: SIGKILL to it alone, others to its group as a terminal does."""
    folder.mkdir()
    log, work_dir = folder / 'log', folder / 'run'
    words = ['bash', 'tools/dist_train.sh', HERE / 'attacked_run.py', 2, '--work-dir', work_dir]
    with command(log, *words, '--cfg-options', 'train_cfg.max_epochs=1000') as process:
        wait_until(lambda: trains(log), 'the first iteration')
        if number == signal.SIGKILL:
            process.kill()
            wait_until(lambda: [*work_dir.glob('iter_*.pth')], 'the checkpoint')
            process.wait()
        else:
            os.killpg(process.pid, number)
            code = process.wait(LONG)
            expect(code == TRY_AGAIN, f'exit code {code}')
            expect('Traceback' not in log.read_text(), 'a traceback')
    wait_until(lambda: not (work_dir / '.lock').read_text(), 'the end of the ranks')
    newest, skipped = newest_checkpoint(work_dir)
    expect(newest is not None and not skipped, f'saved: {newest}; {skipped}')


def quickstart(folder: Path) -> None:
    """SIGTERM to the quick start alone ends its training too, which saves."""
    folder.mkdir()
    log, work_dir = folder / 'log', folder / 'run'
    words = [sys.executable, 'tools/quickstart.py', '--work-dir', work_dir]
    with command(log, *words) as process:
        wait_until(lambda: trains(work_dir / 'logs/look.log'), 'the first log line', 300)
        process.terminate()
        code = process.wait(LONG)
        expect(code == TRY_AGAIN, f'exit code {code}')
        try:
            os.killpg(process.pid, 0)
            raise AssertionError('its training is left')
        except ProcessLookupError:
            pass
    newest, _ = newest_checkpoint(work_dir / 'look')
    expect(newest is not None, 'nothing is saved')


def make_shards(folder: Path, number: int) -> None:
    """A signal to make_shards: nothing is left, or the next call replaces it."""
    (folder / 'images').mkdir(parents=True)
    picture = Image.fromarray(skimage.data.astronaut())
    picture.save(folder / 'images/0.png')
    for index in range(1, 400):
        shutil.copy(folder / 'images/0.png', folder / f'images/{index}.png')
    words = [sys.executable, 'tools/prepare_data/make_shards.py', folder / 'images', folder / 'out']
    partial = folder / 'out.partial-shards'
    with command(folder / 'log', *words) as process:
        wait_until(lambda: [*partial.glob('*.tar')] or process.poll() is not None, 'a shard')
        process.send_signal(number)
        process.wait(LONG)
    stopped = not (folder / 'out').exists()
    expect(not partial.exists() or number == signal.SIGKILL, f'{partial.name} is left')
    if stopped:
        with command(folder / 'log', *words) as process:
            expect(process.wait(LONG) == 0, (folder / 'log').read_text()[-300:])
    left = sorted(path.name for path in folder.iterdir())
    expect(left == ['images', 'log', 'out'], f'left: {left}')


def cases() -> list[tuple[str, Callable[[Path, Path], None]]]:
    """Name and function of each attack; a function gets the root folder and one of its own."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)
    return [
        *(
            (f'dist_train.sh: {n.name}', lambda _, folder, n=n: dist_train(folder, n))
            for n in numbers
        ),
        ('quickstart.py: SIGTERM', lambda _, folder: quickstart(folder)),
        *(
            (f'make_shards.py: {n.name}', lambda _, folder, n=n: make_shards(folder, n))
            for n in (signal.SIGTERM, signal.SIGKILL)
        ),
    ]
