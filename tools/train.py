"""Train what a config describes.

    python tools/train.py CONFIG [options]            one process, on the GPU or the CPU
    bash tools/dist_train.sh CONFIG GPUS [options]    several processes

An error before the first iteration is done is one line; A2MIM_TRACEBACK=1 shows its origin.
"""

import argparse
from collections.abc import Sequence

from a2mim.engine.command_line import add_common_options, add_train_options
from a2mim.engine.start_up import lean_imports
from a2mim.options import Parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'CONFIG --data DIR',
        'CONFIG --data DIR --work-dir OUT --resume --cfg-options train_cfg.max_epochs=20',
    ]
    parser = Parser(__doc__, examples)
    add_common_options(parser)
    add_train_options(parser)
    out = dict(dest='work_dir', default=argparse.SUPPRESS, metavar='DIR')
    parser.add_argument('--out', **out, help='the same as --work-dir')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    with lean_imports():
        from a2mim.engine.launch import train
    train(args)


if __name__ == '__main__':
    main()
