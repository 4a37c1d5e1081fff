"""Measuring in turns: what is to be compared runs in one process, one after the other, repeatedly.

Whatever else the machine does then slows both sides of a comparison alike, and the ratio of two
neighbours is steadier than either time. On a machine that is shared, processor time (summed over
threads) is steadier still; waiting, for other programs or for other threads, is not in it.
"""

import argparse
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from operator import truediv
from pathlib import Path

import timm
import torch


def children_time() -> float:
    """Processor time of processes that this one has started and that have ended."""
    return sum(os.times()[2:4])


CLOCKS = {
    'wall': time.perf_counter,
    'processor': time.process_time,
    'children': children_time,
}


def make_parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options of every measurement in turns."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--rounds', type=int, default=rounds, help='timed turns of each form')
    parser.add_argument('--repeats', type=int, default=1, help='steps per turn; 20 on a GPU')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of the CPU')
    parser.add_argument('--clock', choices=CLOCKS, default='wall', help='what a time is')
    return parser


def take_turns(
    forms: Mapping[str, Callable[[], object]], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Milliseconds of one call of each form, round by round, after one round to warm up.

    Every other round goes backwards through the forms. On a GPU one call may be too short to be
    timed: a turn is ``args.repeats`` calls, at the end of which the GPU is waited for.
    """
    torch.set_num_threads(args.threads)
    clock = CLOCKS[args.clock]
    times: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(args.rounds + 1):
        for name in list(forms) if number % 2 else reversed(forms):
            start = clock()
            for _ in range(args.repeats):
                forms[name]()
            if args.device == 'cuda':
                torch.cuda.synchronize()
            times[name].append(1000 * (clock() - start) / args.repeats)
    return {name: values[1:] for name, values in times.items()}


def paired_ratios(numerator: Sequence[float], denominator: Sequence[float]) -> tuple[float, ...]:
    """Median, lowest and highest of the ratios within each round."""
    ratios = list(map(truediv, numerator, denominator))
    return statistics.median(ratios), min(ratios), max(ratios)


def describe_run(args: argparse.Namespace) -> str:
    """What ran where: processor, threads, clock and versions."""
    if args.device == 'cuda':
        name = torch.cuda.get_device_name()
    else:
        name = f'{_processor_name()}, {os.cpu_count()} cores, {args.threads} thread(s)'
    return f'{name}, {args.clock} time; torch {torch.__version__}, timm {timm.__version__}'


def _processor_name() -> str:
    info = Path('/proc/cpuinfo')  # Linux; platform knows the name elsewhere
    model = re.search('model name\t*: (.*)', info.read_text()) if info.exists() else None
    return model[1] if model else platform.processor() or platform.machine()
