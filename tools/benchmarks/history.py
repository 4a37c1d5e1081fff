"""The step of a run that has logged a thousand values of each kind, and a million.

Both resume the same config in the real runner; what their checkpoints hold of earlier steps is all
that differs. The network is tiny, so that bookkeeping would show. Beside the steps: the size of
what a checkpoint keeps of the history.

    python tools/benchmarks/history.py
"""

import argparse
import io
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from real_run import RealRun, real_recipe
from turns import describe_run, make_parser, paired_ratios, take_turns

from a2mim.engine.mmengine_fixes import RuntimeInfoHook

NAMES = ('loss', 'loss_spatial', 'loss_spectral', 'grad_norm', 'lr', 'time', 'data_time')


def lengthen(run: RealRun, length: int) -> None:
    """Give the run the histories of ``length`` steps, as a checkpoint of mmengine has them."""
    values = np.linspace(1, 0.5, length)
    scalars = {f'train/{name}': HistoryBuffer(values, np.ones(length)) for name in NAMES}
    keys = dict.fromkeys(scalars, True)
    hub = run.runner.message_hub
    hub.load_state_dict(dict(log_scalars=scalars, runtime_info={}, resumed_keys=keys))
    for hook in run.runner.hooks:  # as when the training begins
        if isinstance(hook, RuntimeInfoHook):
            hook.before_train(run.runner)


def kilobytes(hub: MessageHub) -> float:
    """What a checkpoint holds of the history."""
    file = io.BytesIO()
    torch.save(hub.state_dict(), file)
    return file.tell() / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Print one row per length."""
    parser = make_parser(__doc__.split('\n')[0], rounds=9)
    parser.add_argument('--lengths', type=int, nargs=2, default=[1000, 1_000_000])
    args = parser.parse_args(argv)
    recipe = dict(batch=2, image_size=0, dtype='float32', device=args.device, reduced=True)
    short, long = args.lengths
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = {
            length: stack.enter_context(
                real_recipe('vit_base', folder / str(length), argparse.Namespace(**recipe))
            )
            for length in args.lengths
        }
        for length, run in runs.items():
            lengthen(run, length)
        times = take_turns({str(length): run.step for length, run in runs.items()}, args)
        sizes = {length: kilobytes(run.runner.message_hub) for length, run in runs.items()}
    ratio, lowest, highest = paired_ratios(times[str(long)], times[str(short)])
    print(f'{describe_run(args)}; tiny ViT in the real runner, {args.repeats} steps per turn\n')
    print('| values in the history | ms per step | times the first | lowest – highest | KB saved |')
    print('|---:|---:|---:|---:|---:|')
    for length, columns in (
        (short, '1.00 | '),
        (long, f'**{ratio:.3f}** | {lowest:.3f} – {highest:.3f}'),
    ):
        middle = statistics.median(times[str(length)])
        print(f'| {length:,} | {middle:.2f} | {columns} | {sizes[length]:.0f} |')


if __name__ == '__main__':
    main()
