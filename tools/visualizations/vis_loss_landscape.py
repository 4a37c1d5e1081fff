"""Loss around trained weights, along random directions, to a second checkpoint, or along a run.

    python tools/visualizations/vis_loss_landscape.py CONFIG CHECKPOINT [CHECKPOINT ...] [options]
    bash tools/visualizations/dist_vis_loss.sh CONFIG GPUS CHECKPOINT [CHECKPOINT ...] [options]

Loss and top-1 are of the validation images of CONFIG; of a pre-training config, the loss of fixed
training images and masks. Networks go into one figure; random:CHECKPOINT is the model with random
weights. The same command goes on after an interruption.
"""

import argparse
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmengine.dist import init_dist
from torch import distributed
from torch.nn.utils import convert_conv2d_weight_memory_format

from a2mim.analysis import Results
from a2mim.analysis.landscape import (
    NORMS,
    LossOnSet,
    Surface,
    Trajectory,
    Weights,
    draw_contours,
    draw_curves,
    draw_trajectory,
    find_trajectory,
    fixed_batches,
    label_of,
    line,
    measure_surface,
    open_shared_store,
    parse_axis,
    random_direction,
    read_network,
    run_checkpoints,
    weights_of,
)
from a2mim.analysis.networks import fingerprint
from a2mim.engine.command_line import add_common_options, one_line_errors
from a2mim.engine.launch import load_config
from a2mim.engine.processes import count_processes, join_processes, leave_processes
from a2mim.weights.safe_load import trust_checkpoints

MODES = ('surface', 'trajectory', 'surface+trajectory')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='[LABEL=][random:]CHECKPOINT',
        help='of the whole model: the centre; random:CHECKPOINT is the same with random weights',
    )
    add = parser.add_argument
    add('--x', default='-1:1:51', metavar='A:B:N', help='grid along the first direction')
    add('--y', metavar='A:B:N', help='grid along a second direction')
    add('--model-file2', '--model_file2', metavar='FILE', help='first direction: to this network')
    add('--model-file3', '--model_file3', metavar='FILE', help='second direction: to this network')
    add('--dir-type', '--dir_type', choices=('weights', 'states'), default='weights')
    for axis in 'xy':
        add(f'--{axis}norm', choices=NORMS, default='filter')
        add(f'--{axis}ignore', choices=('biasbn', 'none'), default='biasbn')
    add('--plot-mode', '--plot_mode', choices=MODES, default='surface')
    add('--model-folder', '--model_folder', metavar='DIR', help='checkpoints of a trajectory')
    add('--prefix', default='epoch', help='of the names of these checkpoints')
    add('--start-epoch', '--start_epoch', type=int, default=0)
    add('--max-epoch', '--max_epoch', type=int)
    add('--vmin', type=float, default=0.1, help='lowest contour')
    add('--vmax', type=float, default=10.0, help='highest contour')
    add('--vlevel', type=float, default=0.5, help='between two contours')
    add('--log', action='store_true', help='logarithmic loss axis of a curve')
    add('--loss-max', '--loss_max', type=float, default=5.0, help='top of a curve')
    add('--num-images', type=int, metavar='N', help='of the set; all, or 256 in pre-training')
    add('--seed', type=int, default=0, help='of directions, images and masks')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--out', default='work_dirs/analysis/loss_landscape', metavar='DIR')
    return parser.parse_args(argv)


def choose_directions(args: argparse.Namespace, cfg: Config, weights: Weights) -> list[Weights]:
    """Random directions, or those to other checkpoints."""
    choices = [(args.xnorm, args.xignore), (args.ynorm, args.yignore)][: 2 if args.y else 1]
    directions = [
        random_direction(
            weights, 2 * args.seed + i, norm=norm, ignore=None if ignore == 'none' else ignore
        )
        for i, (norm, ignore) in enumerate(choices)
    ]
    for number, file in enumerate((args.model_file2, args.model_file3)):
        if file:
            # A line needs the statistics of batch norm too, or its end is not that network.
            directions[number] = line(weights, weights_of(read_network(file, cfg), 'states'))
    return directions


def check_options(args: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    labels = [label_of(text) for text in args.checkpoints]
    if len(set(labels)) < len(labels):
        raise ValueError(f'two networks have one name among {labels}; write NAME=CHECKPOINT')
    if 'trajectory' in args.plot_mode:
        if not args.model_folder:
            raise ValueError(f'--plot-mode {args.plot_mode} needs --model-folder, a run')
        if len(labels) > 1:
            raise ValueError(f'--plot-mode {args.plot_mode} takes one checkpoint, the last one')
    if args.model_file3 and not args.y:
        raise ValueError('--model-file3 is the end of a second direction, which needs --y')
    if args.plot_mode == 'surface+trajectory' and not args.y:
        raise ValueError('--plot-mode surface+trajectory needs --y, such as --y=-1:1:11')
    if not 0 < args.vlevel < args.vmax - args.vmin:
        raise ValueError(f'--vlevel {args.vlevel} must be above 0 and below vmax - vmin')


def read_trajectory(args: argparse.Namespace, cfg: Config) -> Trajectory | None:
    """The path of the run, if it shall be drawn."""
    if 'trajectory' not in args.plot_mode:
        return None
    folder = Path(args.model_folder)
    files = run_checkpoints(folder, args.prefix, args.start_epoch, args.max_epoch)
    final = weights_of(read_network(args.checkpoints[0], cfg), args.dir_type)
    each = [weights_of(read_network(str(file), cfg), args.dir_type) for file in files]
    return find_trajectory(final, each)


def measure(args: argparse.Namespace, cfg: Config, path: Trajectory | None) -> dict[str, Surface]:
    """The surface of every network, by label."""
    axes = [parse_axis(text) for text in (args.x, args.y) if text]
    batches = fixed_batches(cfg, args.num_images, args.seed)
    kind = 'states' if args.model_file2 or args.model_file3 else args.dir_type
    surfaces = {}
    for text in args.checkpoints:
        model, label = read_network(text, cfg, args.seed), label_of(text)
        convert_conv2d_weight_memory_format(model.to(args.device), torch.channels_last)
        weights = weights_of(model, kind)
        directions = path.directions if path else choose_directions(args, cfg, weights)
        settings = dict(
            config=f'{zlib.crc32(str(cfg.to_dict()).encode()):08x}',
            weights=fingerprint(model.state_dict()),
            directions=[fingerprint(direction) for direction in directions],
            **{name: getattr(args, name) for name in ('x', 'y', 'num_images', 'seed')},
        )
        store = open_shared_store(Path(args.out) / 'parts', label, settings)
        loss = LossOnSet(model, batches)
        surfaces[label] = measure_surface(weights, directions, axes, loss, store, label)
    return surfaces


def write(
    args: argparse.Namespace, surfaces: Mapping[str, Surface], path: Trajectory | None
) -> None:
    """Arrays and the figure."""
    steps = [parse_axis(text).steps() for text in (args.x, args.y) if text]
    settings = dict(config=args.config, checkpoints=args.checkpoints, seed=args.seed)
    results = Results(args.out, 'Loss landscape', settings)
    arrays = dict(zip('xy', steps, strict=False), networks=np.array(list(surfaces)))
    for name in next(iter(surfaces.values()), {}):
        arrays[name] = np.stack([surface[name] for surface in surfaces.values()])
    if path is not None:
        arrays |= dict(points=path.points, explained=path.explained)
    results.add_arrays('surface', **arrays)
    levels = np.arange(args.vmin, args.vmax, args.vlevel)
    if path is not None:
        figure = draw_trajectory(path, steps, next(iter(surfaces.values()), None), levels)
    elif args.y:
        figure = draw_contours(steps, surfaces, levels)
    else:
        figure = draw_curves(steps[0], surfaces, log=args.log, top=args.loss_max)
        for label, surface in surfaces.items():
            for step, loss in zip(steps[0], surface['loss'], strict=True):
                print(f'{label}: {step:8.3f}  loss {loss:.4f}')
    caption = f'Loss around {", ".join(label_of(text) for text in args.checkpoints)}'
    results.add_figure(figure, 'loss_landscape', caption)
    results.finish()
    print(f'figure and surface.npz: {args.out}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors(), trust_checkpoints(args.trust_checkpoint):
        check_options(args)
        for text in filter(None, (args.x, args.y)):
            parse_axis(text)
        cfg = load_config(args)
        count_processes(args.launcher)
        join_processes(cfg, args.launcher)
        if args.launcher != 'none' and not distributed.is_initialized():
            init_dist(args.launcher)  # one GPU each; there is no runner to do it
        for text in args.checkpoints:
            read_network(text, cfg, args.seed)  # refuses a wrong one before any is measured
        path = read_trajectory(args, cfg)
        surfaces = {} if args.plot_mode == 'trajectory' else measure(args, cfg, path)
        if not distributed.is_initialized() or distributed.get_rank() == 0:
            write(args, surfaces, path)
    leave_processes()


if __name__ == '__main__':
    main()
