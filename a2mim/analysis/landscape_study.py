"""The study of a loss landscape: its options, trajectories of runs, figures and results.

``tools/visualizations/vis_loss_landscape.py`` is its command line.

Reference:
    Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018
    (https://arxiv.org/abs/1712.09913), section 7 for trajectories.
"""

import argparse
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine import Config
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from a2mim.analysis.landscape import (
    NORMS,
    LossOnSet,
    Weights,
    fixed_batches,
    label_of,
    line,
    measure_surface,
    open_shared_store,
    parse_axis,
    random_direction,
    read_model,
    weights_of,
)
from a2mim.analysis.networks import chosen_device, fingerprint
from a2mim.analysis.results import Results

MODES = ('surface', 'trajectory', 'surface+trajectory')
MARGIN = 1.2  # of the grid around the path
Surface = Mapping[str, np.ndarray]  # ``loss``, and of a classifier ``top1``


@dataclass(frozen=True)
class Trajectory:
    """Checkpoints of a run as points in a plane of weights.

    Attributes:
        directions: Two, scaled so that the path stays within -1 to 1 along both.
        points: (N, 2) float64, one for each checkpoint; the final weights are the origin.
        explained: (2,), share of the variance of the checkpoints along each.
    """

    directions: list[Weights]
    points: np.ndarray
    explained: np.ndarray


def add_landscape_options(parser: argparse.ArgumentParser) -> None:
    """Add networks, grids, directions, images and drawing."""
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
    add('--device', help='cpu, cuda, …; by default cuda where there is one')
    add('--out', default='work_dirs/analysis/loss_landscape', metavar='DIR')


def check_landscape_options(args: argparse.Namespace) -> None:
    """Raise a ValueError unless the options fit each other."""
    labels = [label_of(text) for text in args.checkpoints]
    if len(set(labels)) < len(labels):
        raise ValueError(f'two networks have one name among {labels}; write LABEL=CHECKPOINT')
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
    for text in filter(None, (args.x, args.y)):
        parse_axis(text)


def read_trajectory(args: argparse.Namespace, cfg: Config) -> Trajectory | None:
    """The path of the run; None unless ``--plot-mode`` has one."""
    if 'trajectory' not in args.plot_mode:
        return None
    folder = Path(args.model_folder)
    files = run_checkpoints(folder, args.prefix, args.start_epoch, args.max_epoch)
    final = weights_of(read_model(args.checkpoints[0], cfg), args.dir_type)
    each = [weights_of(read_model(str(file), cfg), args.dir_type) for file in files]
    return find_trajectory(final, each)


def run_checkpoints(folder: Path, prefix: str, first: int, last: int | None) -> list[Path]:
    """``PREFIX_EPOCH.pth`` in ``folder``, by epoch, from ``first`` to ``last``.

    Raises:
        ValueError: If there are fewer than three, which span no plane with the final weights.
    """
    pattern = re.compile(rf'{re.escape(prefix)}_(\d+)\.pth')
    found = {
        int(m[1]): path for path in folder.glob('*.pth') if (m := pattern.fullmatch(path.name))
    }
    epochs = [epoch for epoch in sorted(found) if epoch >= first and epoch <= (last or epoch)]
    if len(epochs) < 3:
        raise ValueError(
            f'{folder} has {len(epochs)} checkpoints {prefix}_EPOCH.pth of the asked epochs; a '
            'trajectory needs 3 or more: train with default_hooks.checkpoint.max_keep_ckpts=-1'
        )
    return [found[epoch] for epoch in epochs]


def find_trajectory(
    final: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]
) -> Trajectory:
    """Principal directions of the checkpoints' differences to the final weights.

    Raises:
        ValueError: If a checkpoint is of another network, or all are equal.
    """
    rows = [
        torch.cat([part.flatten() for part in line(final, each).values()]) for each in checkpoints
    ]
    differences = torch.stack(rows).double().cpu().numpy()  # (N, weights)
    if not differences.any():
        raise ValueError('all checkpoints have the final weights; there is no trajectory')
    pca = PCA(2, svd_solver='full').fit(differences)
    components = np.asarray(pca.components_)
    points = differences @ components.T
    extent = MARGIN * np.abs(points).max(axis=0).clip(min=1e-12)
    directions = [_unflatten(row, final) for row in components * extent[:, None]]
    return Trajectory(directions, points / extent, np.asarray(pca.explained_variance_ratio_))


def _unflatten(row: np.ndarray, like: Mapping[str, Tensor]) -> Weights:
    parts = torch.from_numpy(row).split([tensor.numel() for tensor in like.values()])
    return {
        name: part.view(tensor.shape).to(tensor)
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }


def measure_landscapes(
    args: argparse.Namespace, cfg: Config, path: Trajectory | None
) -> dict[str, Surface]:
    """Measure the surface of every network, by label."""
    axes = [parse_axis(text) for text in (args.x, args.y) if text]
    batches = fixed_batches(cfg, args.num_images, args.seed)
    device = chosen_device(args.device)
    kind = 'states' if args.model_file2 or args.model_file3 else args.dir_type
    surfaces = {}
    for text in args.checkpoints:
        model, label = read_model(text, cfg, args.seed), label_of(text)
        convert_conv2d_weight_memory_format(model.to(device), torch.channels_last)
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


def choose_directions(args: argparse.Namespace, cfg: Config, weights: Weights) -> list[Weights]:
    """Random directions, or lines to other checkpoints."""
    choices = [(args.xnorm, args.xignore), (args.ynorm, args.yignore)][: 2 if args.y else 1]
    directions = [
        random_direction(
            weights, 2 * args.seed + i, norm=norm, ignore=None if ignore == 'none' else ignore
        )
        for i, (norm, ignore) in enumerate(choices)
    ]
    for number, file in enumerate((args.model_file2, args.model_file3)):
        if file:
            # With the statistics of batch norm, so that the line ends at that network.
            directions[number] = line(weights, weights_of(read_model(file, cfg), 'states'))
    return directions


def write_landscapes(
    args: argparse.Namespace, surfaces: Mapping[str, Surface], path: Trajectory | None
) -> None:
    """Write arrays and the figure."""
    steps = [parse_axis(text).steps() for text in (args.x, args.y) if text]
    settings = dict(config=args.config, checkpoints=args.checkpoints, seed=args.seed)
    results = Results(args.out, 'Loss landscape', settings)
    arrays: dict[str, np.ndarray] = dict(zip('xy', steps, strict=False))
    arrays['networks'] = np.array(list(surfaces))
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
    caption = f'Loss around {", ".join(label_of(text) for text in args.checkpoints)}'
    results.add_figure(figure, 'loss_landscape', caption)
    results.finish()


def draw_curves(
    steps: np.ndarray, surfaces: Mapping[str, Surface], *, log: bool = False, top: float = 5.0
) -> Figure:
    """Draw loss (left axis, up to ``top``) and accuracy (right axis) along a direction."""
    figure = Figure(figsize=(5.5, 3.5 + 0.2 * len(surfaces)), layout='constrained')
    axes = figure.add_subplot(xlabel='step along the direction', ylabel='loss')
    right = None
    for number, (label, surface) in enumerate(surfaces.items()):
        color = f'C{number}'
        axes.plot(steps, surface['loss'], marker='.', label=f'{label}, loss', color=color)
        if 'top1' in surface:
            right = right or axes.twinx()
            name = f'{label}, top-1'
            right.plot(steps, surface['top1'], linestyle='--', label=name, color=color)
    if log:
        axes.set_yscale('log')
    else:
        lowest = min(float(np.nanmin(surface['loss'])) for surface in surfaces.values())
        axes.set_ylim(0, max(top, 1.1 * lowest))
    lines = axes.get_lines()
    if right is not None:
        right.set(ylabel='top-1 accuracy in %', ylim=(0, 100))
        lines = [line for pair in zip(lines, right.get_lines(), strict=True) for line in pair]
    figure.legend(handles=lines, loc='outside upper center', ncols=2, fontsize=8)
    return figure


def draw_contours(
    steps: Sequence[np.ndarray], surfaces: Mapping[str, Surface], levels: np.ndarray
) -> Figure:
    """Draw contours of the loss (X, Y), a panel for each network."""
    figure = Figure(figsize=(4.2 * len(surfaces) + 0.8, 4.2), layout='constrained')
    panels = figure.subplots(1, len(surfaces), squeeze=False, sharey=True)[0]
    for panel, (label, surface) in zip(panels, surfaces.items(), strict=True):
        lines = panel.contour(*steps, surface['loss'].T, levels=levels)
        panel.set_title(label, fontsize=9)
        panel.set_xlabel('step along the first direction')
    panels[0].set_ylabel('step along the second direction')
    figure.colorbar(lines, ax=panels.tolist(), label='loss')
    return figure


def draw_trajectory(
    path: Trajectory, steps: Sequence[np.ndarray], surface: Surface | None, levels: np.ndarray
) -> Figure:
    """Draw the path of a run, over the contours of its loss (X, Y) if they were measured."""
    figure = Figure(figsize=(5, 4.2), layout='constrained')
    names = [
        f'step along the {which} direction ({100 * share:.0f} % of variance)'
        for which, share in zip(('first', 'second'), path.explained, strict=True)
    ]
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    if surface is not None:
        lines = axes.contour(*steps, surface['loss'].T, levels=levels)
        figure.colorbar(lines, ax=axes, label='loss')
    axes.plot(*path.points.T, color='C3', marker='.', label='checkpoints')
    axes.plot(0, 0, color='black', marker='*', linestyle='', label='final weights')
    axes.legend()
    return figure
