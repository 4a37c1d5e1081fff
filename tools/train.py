"""Train what a config describes.

    python tools/train.py CONFIG [options]            one process, on the GPU or the CPU
    bash tools/dist_train.sh CONFIG GPUS [options]    several processes

An error before the first iteration is done is one line; A2MIM_TRACEBACK=1 shows its origin.
"""

import argparse
from collections.abc import Sequence

from a2mim.engine.command_line import add_common_options, add_train_options, one_line_errors
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
        from a2mim.engine.launch import FirstIteration, build_train_runner
        from a2mim.engine.mmengine_fixes import strict_loading
        from a2mim.engine.processes import WorkDirLock, leave_processes
        from a2mim.weights.safe_load import reading

    training, trust = FirstIteration(), reading(args)
    with one_line_errors(training), strict_loading(), trust, WorkDirLock() as lock:
        runner = build_train_runner(args, lock)
        runner.register_hook(training)
        runner.train()
        del runner
    leave_processes()


if __name__ == '__main__':
    main()
