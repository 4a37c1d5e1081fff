"""Start a training from the config that was written for it, and say what was chosen.

    python -m a2mim.own_data.run CONFIG [options of tools/train.py]

is what each of several processes runs.
"""

import argparse
import os
import re
import resource
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine import launch
from a2mim.engine.command_line import add_common_options, add_train_options
from a2mim.engine.log_lines import FILE_WIDTH, terminal_width
from a2mim.engine.loops import batch_size
from a2mim.engine.preflight import example_batch, losses_and_gradients, readable, undisturbed
from a2mim.engine.progress import clock
from a2mim.options import SHIPPED, Parser, usable_cores
from a2mim.own_data.config_text import NAME, unquoted
from a2mim.own_data.options import check_same

MOST_WORKERS = 8
LOOKED_AT = 8  # images whose loading is timed
DRY = 'A2MIM_DRY_RUN'


class EstimateHook(Hook):
    """After the dry step: the time of a step, the length of the run, and its memory.

    Args:
        dry: End here.
    """

    priority = 'ABOVE_NORMAL'  # after the preflight
    only_looks = True

    def __init__(self, dry: bool) -> None:
        self.dry = dry

    def before_train(self, runner: Runner) -> None:
        """Take the time of a step on one batch, which leaves no trace."""
        with undisturbed(runner.model):
            line = estimate(runner)
        runner.logger.info(f'estimate: {line}')
        if self.dry:
            if is_main_process():
                runner.logger.info(f'dry run: the config is in {runner.cfg.filename}')
            raise SystemExit(0)


def estimate(runner: Runner) -> str:
    """Seconds a step, of the whole run, and memory; of a run with an end, what is left."""
    left = runner.max_iters - runner.iter
    hooks = runner.cfg.get('custom_hooks') or []
    until = next((hook['until'] for hook in hooks if hook.get('type') == 'TimeBudgetHook'), None)
    if until is None:
        network, data = pace_of(runner)
        # Workers load beside a GPU; on a CPU they take its cores.
        step = max(network, data) if torch.cuda.is_available() else network + data
        line = f'about {step:.2g} s a step (network {network:.2g}, data {data:.2g}), {left} steps: '
        line += f'{clock(left * step)}; --time ends a run at a given time'
    else:
        line = f'{clock(max(0.0, until - time.time()))} left, for about {left} steps'
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated()
    return f'{line}; {readable(used)} of memory'


def pace_of(runner: Runner) -> tuple[float, float]:
    """Seconds a step that the network takes, and that its workers take to load the images."""
    loader = runner.train_dataloader
    started = time.perf_counter()
    few = min(LOOKED_AT, batch_size(loader))
    example_batch(loader, few)
    data = (time.perf_counter() - started) / few * batch_size(loader)
    batch = example_batch(loader)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    losses_and_gradients(runner, batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, data / max(1, loader.num_workers)


def say(lines: Mapping[str, str]) -> None:
    """Print what was found and chosen: a name and a sentence each."""
    width = dict(width=min(terminal_width(), FILE_WIDTH), break_on_hyphens=False)
    for name, text in lines.items():
        line = f'{name:<10} {text}'
        folded = textwrap.fill(line, subsequent_indent=' ' * 11, **width)  # pyright: ignore
        sys.stdout.write(f'{folded}\n')
    sys.stdout.flush()


def workers() -> int:
    """Data workers of a process."""
    return min(MOST_WORKERS, usable_cores())


def devices_of(given: int | str) -> int:
    """Number of processes.

    Raises:
        ValueError: If there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if given == 'all':
        return max(1, gpus)
    if gpus and int(given) > gpus:
        raise ValueError(f'--devices {given}: this machine has {gpus}; --devices all takes them')
    return int(given)


def start(config: Path, args: argparse.Namespace) -> None:
    """Train ``config`` in this process, or in several by torchrun, which takes its place.

    Args:
        config: In the folder of the run.
        args: Options of the command.
    """
    words = [str(config), '--work-dir', str(args.out)]
    for name in ('log', 'probe'):  # they change nothing in the training
        words += [f'--{name}', value] if (value := getattr(args, name, None)) else []
    words += ['--resume', 'auto'] if args.resume else []
    number = devices_of(args.devices)
    if args.dry_run:
        os.environ[DRY] = '1'
    if number == 1:
        return train(words)
    program = [sys.executable, str((SHIPPED / 'tools').resolve() / 'torchrun.py')]
    program += [f'--nproc_per_node={number}', '--master_port=free', '-m', 'a2mim.own_data.run']
    sys.stdout.flush()
    os.execv(sys.executable, [*program, *words, '--launcher', 'pytorch'])


def train(words: Sequence[str]) -> None:
    """Train as ``tools/train.py`` does, with an estimate after the preflight."""
    parser = Parser(__doc__)
    add_common_options(parser)
    add_train_options(parser)
    launch.train(parser.parse_args(words), EstimateHook(os.environ.pop(DRY, '0') == '1'))


def config_of_run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Path | None:
    """The config of the run that ``--resume`` continues, if there is one.

    Raises:
        ValueError: If options differ from those that it was written by.
    """
    path = args.out / NAME
    if not args.resume or not path.is_file() or not any(args.out.glob('*.pth')):
        return None  # nothing to resume: a new run
    found = re.search(r'^Written by: (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE)
    if found:
        check_same(args, parser, unquoted(found[1]))
    return path


if __name__ == '__main__':
    sys.argv[0] = 'a2mim pretrain'
    train(sys.argv[1:])
