"""From the command to the first step: the quick start, and what it imports on the way.

Each form is a command in a process of its own; all take turns. The time to the first step is that
until the run logs it, whereupon the process is ended. ``--against DIR`` measures another checkout
in the same turns, and adds the ratio of its times to those of this one. Each checkout starts the
pre-training on photographs of its own quick start.

    python tools/benchmarks/start_up.py --rounds 5
    git worktree add ../before main~5 && python tools/benchmarks/start_up.py --against ../before
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from turns import describe_run, make_parser, paired_ratios, take_turns

ROOT = Path(__file__).resolve().parents[2]
# The first one that a checkout has: that of its quick start.
CONFIGS = tuple(
    f'configs/quickstart/a2mim_{name}_photos-64px.py'
    for name in ('resnet10t_1xb32-cos-6e', 'resnet18_1xb64-cos-15e')
)
STEP = 'Epoch(train)'
COMMANDS = {
    'python -c "import torch"': ['-c', 'import torch'],
    'tools/train.py --help': ['tools/train.py', '--help'],
    'import of what trains': ['-c', 'import a2mim.engine.launch'],
}
FIRST_STEP = 'to the first step'


def run_command(checkout: Path, words: Sequence[str]) -> None:
    """Run it to its end."""
    subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=environment(checkout),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def environment(checkout: Path) -> dict[str, str]:
    """That of this process, with the package of ``checkout``."""
    return {**os.environ, 'PYTHONPATH': str(checkout), 'PYTHONUNBUFFERED': '1'}


def run_to_first_step(checkout: Path) -> None:
    """Start the quick start's pre-training, and end it at its first line about a step.

    Raises:
        RuntimeError: If it ends before.
    """
    with tempfile.TemporaryDirectory() as folder:
        there = [name for name in CONFIGS if (checkout / name).is_file()]
        config = [*there, *CONFIGS][0]
        words = [sys.executable, 'tools/train.py', config, '--work-dir', folder]
        process = subprocess.Popen(
            [*words, '--cfg-options', 'default_hooks.logger.interval=1'],
            cwd=checkout,
            env=environment(checkout),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if STEP in line:
                break
        else:
            raise RuntimeError(f'no step in {checkout}: {"".join(said[-5:])}')
        os.killpg(process.pid, signal.SIGKILL)  # with its data workers, and at once
        process.communicate()


def forms(checkouts: dict[str, Path]) -> dict[str, Callable[[], None]]:
    """Every command in every checkout."""
    found: dict[str, Callable[[], None]] = {}
    for label, checkout in checkouts.items():
        for name, words in COMMANDS.items():
            found[f'{name}{label}'] = partial(run_command, checkout, words)
        found[f'{FIRST_STEP}{label}'] = partial(run_to_first_step, checkout)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print one row per command."""
    parser = make_parser(__doc__.split('\n')[0], rounds=5)
    parser.add_argument('--against', type=Path, metavar='DIR', help='another checkout')
    args = parser.parse_args(argv)
    checkouts = {'': ROOT}
    if args.against:
        checkouts[', before'] = args.against.resolve()
    times = take_turns(forms(checkouts), args)
    print(f'{describe_run(args)}; each command in a new process\n')
    print('| command | s | lowest – highest | before, s | times faster |')
    print('|---|---:|---:|---:|---:|')
    for name in (*COMMANDS, FIRST_STEP):
        now, before = times[name], times.get(f'{name}, before')
        other = '| '
        if before:
            ratio, _, _ = paired_ratios(before, now)
            other = f'{statistics.median(before) / 1000:.2f} | **{ratio:.2f}**'
        span = f'{min(now) / 1000:.2f} – {max(now) / 1000:.2f}'
        print(f'| {name} | **{statistics.median(now) / 1000:.2f}** | {span} | {other} |')


if __name__ == '__main__':
    main()
