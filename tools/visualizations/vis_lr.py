"""Draw the learning rate of a config by iteration.

    python tools/visualizations/vis_lr.py CONFIG --dataset-size 1281167 --ngpus 8

With --dataset-size no image is read. Under layer decay every learning rate has a curve.
"""

import argparse
from collections.abc import Sequence

import matplotlib.style
from matplotlib.figure import Figure
from mmengine.registry import init_default_scope

from a2mim.analysis.results import write_figure
from a2mim.analysis.runs import Rates, read_rates
from a2mim.engine.command_line import one_line_errors
from a2mim.engine.config_edit import apply_batch_rule
from a2mim.engine.config_options import ConfigOptions
from a2mim.engine.launch import load_config

NAMES = dict(lr='learning rate', weight_decay='weight decay', momentum='momentum')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of any training')
    parser.add_argument('-d', '--dataset-size', type=int, metavar='N', help='number of images')
    parser.add_argument('-n', '--ngpus', type=int, default=1, metavar='N', help='world size')
    parser.add_argument('--title', help='name of the config without it')
    parser.add_argument('--style', default='whitegrid', help='seaborn style, as matplotlib has it')
    parser.add_argument(
        '-s', '--save-path', default='work_dirs/analysis/lr', help='folder, or a file .png or .pdf'
    )
    parser.add_argument('--window-size', default='12*7', metavar='W*H', help='inches')
    parser.add_argument('--data-root', '--data_root', metavar='DIR', help='read the images there')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    return parser.parse_args(argv)


def window(text: str) -> tuple[float, float]:
    """Read ``12*7`` as inches."""
    try:
        width, height = (float(side) for side in text.split('*'))
    except ValueError:
        width = height = 0
    if min(width, height) <= 0:
        raise ValueError(f'--window-size {text}: give width*height in inches, such as 12*7')
    return width, height


def draw(rates: Rates, title: str, size: tuple[float, float]) -> Figure:
    """Draw one panel for each value that changes."""
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(rates.values), sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, rates.values.items(), strict=True):
        several = name == 'lr' and len(rates.initial) > 1
        for column, initial in zip(values.T, rates.initial, strict=False):
            axis.plot(column, label=f'{initial:.3g}')
        if several:
            axis.legend(title='before the schedule', ncols=1 + len(rates.initial) // 12)
        axis.set_ylabel(NAMES[name])
    axes[-1].set_xlabel(f'iteration ({rates.epoch_length} per epoch)')
    figure.suptitle(title)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        for name in ('dataset_size', 'ngpus'):
            if (value := getattr(args, name)) is not None and value < 1:
                raise ValueError(f'--{name.replace("_", "-")} {value}: give 1 or more')
        size = window(args.window_size)
        if f'seaborn-v0_8-{args.style}' not in matplotlib.style.available:
            raise ValueError(f'--style {args.style}: give white, whitegrid, dark, darkgrid, ticks')
        cfg = load_config(args)
        init_default_scope(cfg.default_scope)
        if note := apply_batch_rule(cfg, args.ngpus):
            print(note)
        rates = read_rates(cfg, args.dataset_size, args.ngpus)
        with matplotlib.style.context(f'seaborn-v0_8-{args.style}'):
            figure = draw(rates, args.title or args.config, size)
        caption = f'Learning rate of {args.config}, {rates.epoch_length} iterations per epoch'
        settings = dict(config=args.config, dataset_size=args.dataset_size, ngpus=args.ngpus)
        path = write_figure(figure, args.save_path, 'lr', caption, settings=settings)
        lr = rates.values['lr']
        print(f'{len(lr)} iterations, {lr.shape[1]} learning rate(s)')
        print(f'first {lr[0].max():.4g}, highest {lr.max():.4g}, last {lr[-1].max():.4g}: {path}')


if __name__ == '__main__':
    main()
