"""Loss around trained weights, along random directions, to a second checkpoint, or along a run.

    python tools/visualizations/vis_loss_landscape.py CONFIG CHECKPOINT [options]
    bash tools/visualizations/dist_vis_loss.sh CONFIG GPUS CHECKPOINT [options]

Loss and top-1 are of the validation images of CONFIG; of a pre-training config, the loss of fixed
training images and masks. The same command goes on after an interruption.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmengine.dist import init_dist
from torch import distributed, nn

from a2mim.analysis import PartStore, Results
from a2mim.analysis.landscape import (
    LossOnSet,
    draw_contours,
    draw_curve,
    find_trajectory,
    fixed_batches,
    line,
    measure_surface,
    parse_axis,
    random_direction,
    run_checkpoints,
    weights_of,
)
from a2mim.analysis.landscape.directions import NORMS, Weights
from a2mim.analysis.subject import fingerprint
from a2mim.checkpoint import trust_checkpoints
from a2mim.engine.launch.build import load_config
from a2mim.engine.launch.options import add_common_options, existing_file
from a2mim.engine.launch.processes import count_processes, join_processes, leave_processes
from a2mim.engine.launch.user_errors import one_line_errors
from a2mim.zoo.weights import load_model_file

MODES = ('surface', 'trajectory', 'surface+trajectory')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument('checkpoint', help='checkpoint of the whole model: the centre')
    add = parser.add_argument
    add('--x', default='-1:1:51', metavar='A:B:N', help='grid along the first direction')
    add('--y', metavar='A:B:N', help='grid along a second direction')
    add('--model-file2', '--model_file2', metavar='FILE', help='first direction: to this network')
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


def read_model(cfg: Config, file: str | Path) -> nn.Module:
    """The model of the config with the weights of a file."""
    return load_model_file(Path(file), cfg.to_dict(), None, pretrained=True)


def choose_directions(args: argparse.Namespace, cfg: Config, weights: Weights) -> list[Weights]:
    """Random directions, the first one to a second checkpoint where there is one."""
    choices = [(args.xnorm, args.xignore), (args.ynorm, args.yignore)][: 2 if args.y else 1]
    directions = [
        random_direction(
            weights, 2 * args.seed + i, norm=norm, ignore=None if ignore == 'none' else ignore
        )
        for i, (norm, ignore) in enumerate(choices)
    ]
    if args.model_file2:
        # A line needs the statistics of batch norm too, or its end is not the second network.
        second = read_model(cfg, existing_file(args.model_file2, '--model-file2'))
        directions[0] = line(weights, weights_of(second, 'states'))
    return directions


def check_options(args: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    if 'trajectory' in args.plot_mode and not args.model_folder:
        raise ValueError(f'--plot-mode {args.plot_mode} needs --model-folder, a run')
    if args.plot_mode == 'surface+trajectory' and not args.y:
        raise ValueError('--plot-mode surface+trajectory needs --y, such as --y=-1:1:11')
    if not 0 < args.vlevel < args.vmax - args.vmin:
        raise ValueError(f'--vlevel {args.vlevel} must be above 0 and below vmax - vmin')


def measure(args: argparse.Namespace, cfg: Config, model: nn.Module, weights: Weights) -> None:
    """Measure, and let the first process write."""
    axes = [parse_axis(text) for text in (args.x, args.y) if text]
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    path = None
    if 'trajectory' in args.plot_mode:
        files = run_checkpoints(
            Path(args.model_folder), args.prefix, args.start_epoch, args.max_epoch
        )
        kind = args.dir_type
        path = find_trajectory(weights, [weights_of(read_model(cfg, file), kind) for file in files])
    directions = path.directions if path else choose_directions(args, cfg, weights)
    surface: dict[str, np.ndarray] = {}
    if args.plot_mode != 'trajectory':
        loss = LossOnSet(model, fixed_batches(cfg, args.num_images, args.seed))
        surface = measure_surface(weights, directions, axes, loss, open_store(args, model))
    if first:
        write(args, [axis.steps() for axis in axes], surface, path)


def open_store(args: argparse.Namespace, model: nn.Module) -> PartStore:
    """Parts of this measurement; the first process makes the folder."""
    names = 'config checkpoint x y model_file2 dir_type xnorm xignore ynorm yignore num_images seed'
    names += ' plot_mode model_folder prefix start_epoch max_epoch data_root'
    settings = {name: getattr(args, name) for name in names.split()}
    settings |= dict(weights=fingerprint(model), options=str(args.cfg_options))
    together = distributed.is_initialized()
    if together and distributed.get_rank():
        distributed.barrier()
    store = PartStore(Path(args.out) / 'parts', settings)
    if together and not distributed.get_rank():
        distributed.barrier()
    if together:
        distributed.barrier()  # nobody cleans up while another one writes
    return store


def write(args: argparse.Namespace, steps: list, surface: dict, path: object) -> None:
    """Arrays and the figure."""
    settings = dict(config=args.config, checkpoint=args.checkpoint, seed=args.seed)
    results = Results(args.out, 'Loss landscape', settings)
    points = {} if path is None else dict(points=path.points, explained=path.explained)
    results.add_arrays('surface', **dict(zip('xy', steps, strict=False)), **surface, **points)
    if len(steps) == 2 or path is not None:
        levels = np.arange(args.vmin, args.vmax, args.vlevel)
        grid = (steps[0], steps[-1])
        figure = draw_contours(grid, surface.get('loss'), levels, path)
    else:
        figure = draw_curve(steps[0], surface, log=args.log, top=args.loss_max)
        for step, loss in zip(steps[0], surface['loss'], strict=True):
            print(f'{step:8.3f}  loss {loss:.4f}')
    results.add_figure(figure, 'loss_landscape', f'Loss around {args.checkpoint}')
    results.finish()


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
        model = read_model(cfg, existing_file(args.checkpoint, 'checkpoint')).to(args.device)
        kind = 'states' if args.model_file2 else args.dir_type
        measure(args, cfg, model, weights_of(model, kind))
    leave_processes()


if __name__ == '__main__':
    main()
