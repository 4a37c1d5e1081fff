"""Attention of vision transformers: distance of every head by depth, and maps over images.

    python tools/visualizations/vis_attention.py NETWORK [NETWORK ...] [--block -1] [--query N]

Maps are of the class token, else of the mean over all patches, or of patch --query.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results
from a2mim.analysis.attention import (
    AttentionSummary,
    attention_modules,
    draw_attention_distance,
    draw_attention_maps,
    measure_attention,
)
from a2mim.engine.command_line import one_line_errors

SHOWN = 4  # images with maps


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(parser, out='work_dirs/analysis/attention', num_images=50)
    parser.add_argument('--block', type=int, default=-1, help='of the maps; default: the last')
    parser.add_argument('--query', type=int, metavar='N', help='number of a patch, by rows from 0')
    return parser.parse_args(argv)


def distance_rows(labels: Sequence[str], found: Sequence[AttentionSummary]) -> list[dict]:
    """A table row for each network, block and head."""
    return [
        dict(subject=label, block=block, head=head, distance=distance)
        for label, summary in zip(labels, found, strict=True)
        for block, heads in zip(summary.blocks, summary.distances, strict=True)
        for head, distance in enumerate(heads)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        networks, images = open_networks(args), open_images(args)
        for network in networks:
            attention_modules(network.model)
        parts = Path(args.out) / 'parts'
        found = [
            measure_attention(network, images, args.block, args.query, args.batch_size, parts)
            for network in networks
        ]
        labels = [network.label for network in networks]
        for label, summary in zip(labels, found, strict=True):
            means = ' '.join(f'{mean:.1f}' for mean in summary.distances.mean(axis=1))
            print(f'{label}: mean attention distance by block, px: {means}')
        results = open_results(args, 'Attention', block=args.block, query=args.query)
        caption = f'Attention distance in pixels, {len(images)} images, a dot for every head'
        results.add_figure(draw_attention_distance(labels, found), 'attention_distance', caption)
        results.add_table(distance_rows(labels, found), 'attention_distance', caption)
        # Images are sorted by class: spread the shown ones over all.
        shown = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int).tolist()
        size = networks[0].image_size
        pictures = {
            images.names[i]: images.pixels(size, i, i + 1)[0].permute(1, 2, 0).numpy()
            for i in shown
        }
        weights = [summary.maps[shown].mean(axis=1) for summary in found]
        maps = draw_attention_maps(labels, weights, pictures)
        queries = ', '.join(sorted({summary.query for summary in found}))
        results.add_figure(
            maps, 'attention_maps', f'Attention of {queries}, block {args.block}, mean over heads'
        )
        results.add_arrays(
            'attention_maps', **{f'network{i}': summary.maps for i, summary in enumerate(found)}
        )
        results.finish()
        print(f'figures, attention_distance.csv and attention_maps.npz: {args.out}')


if __name__ == '__main__':
    main()
