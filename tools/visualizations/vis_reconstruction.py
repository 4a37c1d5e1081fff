"""Reconstructions of images by one or several networks, for several masks.

    python tools/visualizations/vis_reconstruction.py NETWORK [NETWORK ...] [--ratios 0.3 0.6 0.9]

Each of --ratios, --block-sizes and --seeds with more than one value makes a figure, the others at
their first value; pasted (the image where it is visible) and plain (the output everywhere).
errors.csv has the mean absolute error over masked pixels of every image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results
from a2mim.analysis.reconstructions import (
    MaskSetting,
    check_reconstructions,
    draw_grid,
    reconstruct_images,
    reconstruction_rows,
)
from a2mim.engine.command_line import one_line_errors
from a2mim.weights.load_model import InputSpec


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(parser, out='work_dirs/analysis/reconstruction', num_images=6)
    add = parser.add_argument
    add('--ratios', type=float, nargs='+', help='of masked blocks; default: as in pre-training')
    sizes = 'of masks; default: as in pre-training'
    add('--block-sizes', type=int, nargs='+', metavar='PX', help=sizes)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of masks')
    return parser.parse_args(argv)


def families(args: argparse.Namespace, spec: InputSpec) -> dict[str, list[MaskSetting]]:
    """Masks of every figure, by its name."""
    block = spec.block_size if isinstance(spec.block_size, int) else spec.block_size[0]
    ratios, blocks = args.ratios or [spec.ratio], args.block_sizes or [block]
    found = dict(
        ratios=[MaskSetting(ratio, blocks[0], args.seeds[0]) for ratio in ratios],
        block_sizes=[MaskSetting(ratios[0], block, args.seeds[0]) for block in blocks],
        seeds=[MaskSetting(ratios[0], blocks[0], seed) for seed in args.seeds],
    )
    several = {name: settings for name, settings in found.items() if len(settings) > 1}
    return several or dict(reconstruction=found['ratios'])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        networks, images = open_networks(args), open_images(args)
        spec = getattr(networks[0].whole, 'input_spec', InputSpec())
        figures = families(args, spec)
        everything = list(dict.fromkeys(setting for f in figures.values() for setting in f))
        check_reconstructions(networks, everything)
        parts = Path(args.out) / 'parts'
        found = {
            setting: [
                reconstruct_images(one, images, setting, args.batch_size, parts) for one in networks
            ]
            for setting in everything
        }
        rows = reconstruction_rows(networks, images, everything, list(found.values()))
        settings = dict(ratios=args.ratios, block_sizes=args.block_sizes, seeds=args.seeds)
        results = open_results(args, 'Reconstructions', **settings)
        for name, masks in figures.items():
            for pasted in (True, False):
                grid = [found[mask] for mask in masks]
                figure = draw_grid(networks, images, masks, grid, pasted=pasted)
                kind = 'visible pixels pasted' if pasted else 'output everywhere'
                caption = f'Reconstructions, {kind}; L1 over masked pixels, mean of {len(images)}'
                results.add_figure(figure, name if pasted else f'{name}_plain', caption)
        caption = 'Mean absolute error over masked pixels, in standard deviations of the pixels'
        results.add_table(rows, 'errors', caption)
        results.finish()
        for mask in everything:
            for network, result in zip(networks, found[mask], strict=True):
                error, plain = result.errors.numpy(), result.mean_colour_errors.numpy()
                print(
                    f'{mask}: {network.label} L1 {np.mean(error):.4f} '
                    f'(mean colour {np.mean(plain):.4f}), {len(images)} images'
                )
        print(f'figures and errors.csv: {args.out}')


if __name__ == '__main__':
    main()
