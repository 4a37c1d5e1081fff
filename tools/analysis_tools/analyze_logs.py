"""Curves and times from the logs of runs.

    python tools/analysis_tools/analyze_logs.py plot_curve LOG [LOG ...] [--keys KEY ...]
    python tools/analysis_tools/analyze_logs.py cal_train_time LOG [LOG ...]

LOG is a work dir (the parts of a resumed run are joined), its scalars.json, or a .log.json of
OpenMixup.
"""

import argparse
from collections.abc import Sequence

import matplotlib
import matplotlib.style
from matplotlib import pyplot

from a2mim.analysis.results import write_figure
from a2mim.analysis.runs import RunLog, plot_curves, read_run, train_time
from a2mim.engine.command_line import one_line_errors

SEABORN = 'seaborn-v0_8-'  # matplotlib's prefix of seaborn's styles


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='draw what was logged')
    plot.add_argument('logs', nargs='+', metavar='LOG')
    plot.add_argument('--keys', nargs='+', default=['loss'], help='what to draw')
    plot.add_argument('--title')
    plot.add_argument('--legend', nargs='+', help='one text for each key of each log')
    plot.add_argument('--backend', help='also show a window of this backend of matplotlib')
    plot.add_argument('--style', default='whitegrid', help='of matplotlib, such as dark, ggplot')
    plot.add_argument(
        '--out', default='work_dirs/analysis/logs', help='folder, or a file .png or .pdf'
    )
    times = tasks.add_parser('cal_train_time', help='seconds per iteration')
    times.add_argument('logs', nargs='+', metavar='LOG')
    times.add_argument(
        '--include-outliers', action='store_true', help='keep the first time of each epoch'
    )
    return parser.parse_args(argv)


def style_name(name: str) -> str:
    """Name of a style in matplotlib.

    Raises:
        ValueError: If there is no such style.
    """
    for known in (name, SEABORN + name):
        if known in matplotlib.style.available:
            return known
    known = ', '.join(found.removeprefix(SEABORN) for found in matplotlib.style.available)
    raise ValueError(f'--style {name}: no such style; there are {known}')


def plot_curve(runs: Sequence[RunLog], args: argparse.Namespace) -> None:
    """Draw the keys of all runs."""
    pyplot.switch_backend(args.backend or 'agg')
    with matplotlib.style.context(style_name(args.style)):
        figure = pyplot.figure(figsize=(8, 5), layout='constrained')
        rows = plot_curves(figure, runs, args.keys, args.legend, args.title)
        canvas = figure.canvas
        caption = f'{", ".join(args.keys)} of {", ".join(run.label for run in runs)}'
        settings = dict(logs=args.logs, keys=args.keys)
        path = write_figure(figure, args.out, 'curves', caption, settings=settings, rows=rows)
    print(f'{path} and .pdf: {len(rows)} points')
    if args.backend:
        figure.set_canvas(canvas)
        pyplot.show()
    pyplot.close(figure)


def cal_train_time(runs: Sequence[RunLog], args: argparse.Namespace) -> None:
    """Print the seconds per iteration."""
    for run in runs:
        time = train_time(run, include_outliers=args.include_outliers)
        print(f'{run.label}: {time.mean:.4f} s per iteration, standard deviation {time.std:.4f}')
        for word, epoch in (('slowest', time.slowest), ('fastest', time.fastest)):
            print(f'  {word} epoch {epoch}: {time.epochs[epoch]:.4f} s per iteration')
        print(f'  standard deviation over {len(time.epochs)} epochs: {time.std_of_epochs:.4f} s')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        runs = [read_run(log) for log in args.logs]
        (plot_curve if args.task == 'plot_curve' else cal_train_time)(runs, args)


if __name__ == '__main__':
    main()
