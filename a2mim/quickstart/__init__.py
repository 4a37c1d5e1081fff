"""Pre-train, look, fine-tune, compare and take the weights, on images that are already installed.

Look: A2MIM on photographs, pictures of held-out ones. Prove: a ViT and a ResNet are pre-trained on
handwritten digits without labels, and fine-tuned with five labels of each class, from A2MIM, from
SimMIM and from scratch; it is a small study (tools/study), and a seed changes weights, label draw
and order together. Take: the weights in timm. Every training is that of a config. Stopped by a
signal, it saves; started again, it resumes there.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.options import Parser

SEEDS = (0, 1, 2)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, ['--quick', '--seeds 0 1 2 3 4 --out work_dirs/five_seeds'])
    place = dict(type=Path, default=Path('work_dirs/quickstart'), metavar='DIR')
    parser.add_argument('--work-dir', '--out', **place, help='folder of results')  # pyright: ignore
    group = parser.add_mutually_exclusive_group()
    seeds = dict(type=int, nargs='+', default=list(SEEDS), metavar='N', help='of all draws')
    group.add_argument('--seeds', **seeds)  # pyright: ignore
    group.add_argument('--quick', action='store_true', help='one seed, in less time')
    args = parser.parse_args(argv)
    args.seeds = [SEEDS[0]] if args.quick else args.seeds
    for seed in args.seeds:
        if seed < 0 or args.seeds.count(seed) > 1:
            parser.error(f'--seeds {seed}: give different whole numbers from 0 on')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from a2mim.engine.command_line import one_line_errors
    from a2mim.quickstart.command import start

    with one_line_errors():
        start(args.work_dir.resolve(), args.seeds)
