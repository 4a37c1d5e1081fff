"""Effective receptive fields: gradient of a stage's central position with respect to the pixels.

    python tools/visualizations/vis_erf.py NETWORK [NETWORK ...] [--stage -1]

erf.csv has the sides of the smallest squares that contain 20, 30, 50 and 99 per cent of the
contribution, in pixels, and their share of the image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results
from a2mim.analysis.receptive_field import (
    SHARES,
    draw_receptive_fields,
    effective_receptive_field,
    find_stage,
    square_with_share,
)
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(parser, out='work_dirs/analysis/erf', num_images=50)
    parser.add_argument(
        '--stage', default='-1', help='module path, or number of a stage; default: the last'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        networks, images = open_networks(args), open_images(args)
        for network in networks:
            find_stage(network.model, args.stage)
        parts = Path(args.out) / 'parts'
        fields = [
            effective_receptive_field(one, images, args.stage, args.batch_size, parts)
            for one in networks
        ]
        labels, rows = [network.label for network in networks], []
        for label, field in zip(labels, fields, strict=True):
            for share, (side, area) in zip(
                SHARES, square_with_share(field.contribution), strict=True
            ):
                row = dict(subject=label, stage=field.stage, share=share, side=side, area=area)
                rows.append(row)
                print(f'{label}, {field.stage}: {share:.0%} within {side:g} px, {area:.1%} of area')
        results = open_results(args, 'Effective receptive fields', stage=args.stage)
        caption = (
            f'Mean absolute gradient of the central position, {len(images)} images, as powers of '
            'ten of the largest; the cross is the position'
        )
        results.add_figure(draw_receptive_fields(labels, fields), 'erf', caption)
        results.add_table(
            rows, 'erf', 'Smallest squares that contain a share of the contribution, in pixels'
        )
        results.add_arrays(
            'erf', **{f'network{i}': field.contribution for i, field in enumerate(fields)}
        )
        results.finish()
        print(f'figure, erf.csv and erf.npz: {args.out}')


if __name__ == '__main__':
    main()
