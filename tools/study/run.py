"""Run a study: networks × starts × label counts × seeds, whatever of it is not done yet.

    python tools/study/run.py digits --out DIR [--processes 2] [--seeds 0 1 2]
    python tools/study/run.py digits --out DIR --only network=vit-4x128 labels=2 seed=0

A study is a folder of configs/study. Results are lines of DIR/results.jsonl; tools/study/report.py
makes tables and plots of them. Started again, it resumes: runs that are done stay, the one in
progress resumes from its checkpoint, bit for bit. Several commands may share DIR.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.signals import ending_on_signals
from a2mim.study import check_study, find_study, read_study, run_study
from a2mim.study.budget import fit_budget, with_budget
from a2mim.study.results import check_folder


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', help='a folder of configs/study, or a path')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='results')
    parser.add_argument('--processes', type=int, default=1, metavar='N', help='runs side by side')
    parser.add_argument('--seeds', type=int, nargs='+', help='in place of those of the matrix')
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='AXIS=VALUE', help='complete some cells alone'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='class folders in DIR/train and DIR/val, where files are read',
    )
    parser.add_argument(
        '--choose-rates',
        action='store_true',
        help='do no more than choose learning rates, also where the matrix has chosen ones',
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--budget',
        type=float,
        metavar='SECONDS',
        help='shorten the trainings so that the first network fits, and begin no run after it',
    )
    parser.add_argument('--resume', action='store_true', help='what it does anyway')
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@contextmanager
def other_processes(words: Sequence[str], number: int) -> Iterator[None]:
    """Within the block ``number`` further processes run the same study; errors and signals end all.

    Raises:
        SystemExit: If one of them fails, once the block is done.
    """
    call = [sys.executable, __file__, *words, '--worker']
    others = [subprocess.Popen(call) for _ in range(number)]
    try:
        with ending_on_signals():
            yield
            codes = [other.wait() for other in others]
    except BaseException:
        for other in others:
            other.terminate()
        for other in others:
            other.wait()
        raise
    if any(codes):
        raise SystemExit(max(code if code >= 0 else 128 - code for code in codes))


def check_device(device: str) -> None:
    """Every run takes a GPU where there is one.

    Raises:
        ValueError: If that is another device than ``device``.
    """
    if device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: torch finds no GPU here')
    if device == 'cpu' and torch.cuda.is_available():
        raise ValueError(
            '--device cpu: every run would take the GPU; hide it with CUDA_VISIBLE_DEVICES= or '
            'take --device cuda'
        )


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    words = sys.argv[1:] if argv is None else argv
    args = parse_args(words)
    torch.set_num_threads(1)
    with one_line_errors():
        check_device(args.device)
        if args.processes < 1:
            raise ValueError(f'--processes {args.processes} must be at least 1')
        only = dict(entry.partition('=')[::2] for entry in args.only)
        study = read_study(find_study(args.study), args.seeds)
        if args.choose_rates:
            study = replace(study, chosen={})
        if not args.worker:
            study.selected(only)
            check_study(study, args.data_root)
            check_folder(args.out, study)
            if args.budget is not None:
                study = fit_budget(study, args.out, args.budget, args.data_root)
        with other_processes(words, 0 if args.worker else args.processes - 1):
            study, seconds = with_budget(study, args.out), args.budget or math.inf
            jobs = study.choosing() if args.choose_rates else study.needed(only)
            run_study(study, args.out, jobs, args.data_root, say, seconds)


if __name__ == '__main__':
    main()
