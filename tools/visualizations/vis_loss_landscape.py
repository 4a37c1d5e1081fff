"""Loss around trained weights, along random directions, to a second checkpoint, or along a run.

    python tools/visualizations/vis_loss_landscape.py CONFIG CHECKPOINT [CHECKPOINT ...] [options]
    bash tools/visualizations/dist_vis_loss.sh CONFIG GPUS CHECKPOINT [CHECKPOINT ...] [options]

Loss and top-1 are of the validation images of CONFIG; of a pre-training config, the loss of fixed
training images and masks. Networks go into one figure; random:CHECKPOINT is the model with random
weights. The same command resumes after an interruption.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.dist import init_dist
from torch import distributed

from a2mim.analysis.landscape import parse_axis, read_model
from a2mim.analysis.landscape_study import (
    Surface,
    add_landscape_options,
    check_landscape_options,
    measure_landscapes,
    read_trajectory,
    write_landscapes,
)
from a2mim.engine.command_line import add_common_options, one_line_errors
from a2mim.engine.launch import load_config
from a2mim.engine.processes import count_processes, join_processes, leave_processes
from a2mim.weights.safe_load import reading


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    add_landscape_options(parser)
    return parser.parse_args(argv)


def print_curves(surfaces: Mapping[str, Surface], steps: np.ndarray) -> None:
    """A line for each network and step."""
    for label, surface in surfaces.items():
        for step, loss in zip(steps, surface['loss'], strict=True):
            print(f'{label}: {step:8.3f}  loss {loss:.4f}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors(), reading(args):
        check_landscape_options(args)
        cfg = load_config(args)
        count_processes(args.launcher)
        join_processes(cfg, args.launcher)
        if args.launcher != 'none' and not distributed.is_initialized():
            init_dist(args.launcher)  # one GPU each; there is no runner to do it
        for text in args.checkpoints:
            read_model(text, cfg, args.seed)  # rejects a wrong one before any is measured
        path = read_trajectory(args, cfg)
        surfaces = {} if args.plot_mode == 'trajectory' else measure_landscapes(args, cfg, path)
        if not distributed.is_initialized() or distributed.get_rank() == 0:
            write_landscapes(args, surfaces, path)
            if not args.y:
                print_curves(surfaces, parse_axis(args.x).steps())
            print(f'figure and surface.npz: {args.out}')
    leave_processes()


if __name__ == '__main__':
    main()
