"""Robustness of networks to images that are occluded, shuffled or corrupted.

    python analysis_tools/robustness/robustness.py NETWORK... --study STUDY [options]

Classifiers are measured by top-1 accuracy, backbones by the cosine similarity of their pooled
feature with that of the unchanged image. The same command resumes after an interruption.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results
from a2mim.analysis.robustness import (
    CORRUPTIONS,
    MEASURES,
    Level,
    check_measure,
    choose_measure,
    corruption_levels,
    draw_robustness,
    occlusion_levels,
    robustness_curves,
    robustness_rows,
    shuffle_levels,
)
from a2mim.engine.command_line import one_line_errors

AXES = dict(
    occlusion='share of dropped patches', shuffle='patches along a side', corruptions='severity'
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(parser, out='work_dirs/analysis/robustness', num_images=56)
    parser.add_argument('--study', choices=AXES, required=True)
    parser.add_argument('--measure', choices=MEASURES, help='overrides the choice by network')
    parser.add_argument('--labelled', action='store_true', help='folders of --images are classes')
    parser.add_argument(
        '--ratios', type=float, nargs='+', default=[0, 0.1, 0.25, 0.5, 0.75, 0.9], metavar='R'
    )
    parser.add_argument('--grid', type=int, default=8, help='patches along a side, for occlusion')
    parser.add_argument('--grids', type=int, nargs='+', default=[1, 2, 4, 8], metavar='N')
    parser.add_argument('--corruptions', nargs='+', default=list(CORRUPTIONS), metavar='NAME')
    return parser.parse_args(argv)


def choose_levels(args: argparse.Namespace) -> tuple[list[Level], dict[str, object]]:
    """Levels of the study, and the options that they depend on."""
    if args.study == 'occlusion':
        return occlusion_levels(args.ratios, args.grid), dict(grid=args.grid)
    if args.study == 'shuffle':
        return shuffle_levels(args.grids), {}
    return corruption_levels(args.corruptions), {}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        levels, options = choose_levels(args)
        networks, images = open_networks(args), open_images(args, labelled=args.labelled)
        measure = args.measure or choose_measure(networks)
        check_measure(networks, images, measure)
        results = open_results(args, f'Robustness: {args.study}', study=args.study, **options)
        curves = {}
        for network in networks:
            curves[network.label] = robustness_curves(
                network,
                images,
                levels,
                measure,
                Path(args.out) / 'parts' / args.study,
                options,
                batch_size=args.batch_size,
                seed=args.seed,
            )
        rows = robustness_rows(curves)
        for row in rows:
            print(f'{row["network"]:24} {row["change"]:16} {row["value"]:6g} {row["score"]:8.3f}')
        caption = f'{measure}, {len(images)} images'
        results.add_table(rows, args.study, caption)
        arrays = {
            f'{number}/{name}': scores
            for number, own in enumerate(curves.values())
            for name, (_, scores) in own.items()
        }
        results.add_arrays(args.study, **arrays)
        figure = draw_robustness(curves, AXES[args.study], measure)
        results.add_figure(figure, args.study, caption)
        results.finish()
        print(f'figure, {args.study}.csv and .npz: {args.out}')


if __name__ == '__main__':
    main()
