"""Strength of interactions between pairs of image patches, by the number of other visible patches.

    python analysis_tools/representation_bottleneck/interactions.py NETWORK [NETWORK …] [options]

Multi-order interactions of Deng et al., ICLR 2022, as the A2MIM paper draws them. The defaults of
grid, pairs, contexts and ratios are those of its reference implementation. The same command resumes
an interrupted measurement. docs/interactions.md explains the numbers.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from a2mim.analysis import (
    AnalysisImages,
    Network,
    add_analysis_options,
    open_images,
    open_networks,
    open_results,
)
from a2mim.analysis.interactions import (
    OUTPUTS,
    PUBLISHED_RATIOS,
    TARGETS,
    InteractionSettings,
    Measured,
    add_interaction_results,
    check_networks,
    measure_interactions,
    passes_per_second,
)
from a2mim.engine.command_line import one_line_errors

NAMES = ('grid', 'pairs', 'contexts', 'ratios', 'output', 'target', 'correct_only')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = 'work_dirs/analysis/interactions'
    add_analysis_options(parser, out=out, num_images=20, batch_size=512)
    add = parser.add_argument
    add('--labelled', action='store_true', help='folders in DIR are classes')
    add('--grid', type=int, default=14, help='cells along a side of the image')
    add('--pairs', type=int, default=50, help='of patches, for each image')
    add('--contexts', type=int, default=50, help='for each pair and order')
    ratios = 'orders / (patches - 2)'
    add('--ratios', type=float, nargs='+', default=PUBLISHED_RATIOS, help=ratios)
    output = f'{", ".join(OUTPUTS)}; default: modified, without a classifier feature'
    add('--output', help=output)
    add('--target', choices=TARGETS, default='auto', help='class of the output')
    add('--correct-only', action='store_true', help='skip misclassified images')
    return parser.parse_args(argv)


def measure(
    networks: list[Network], images: AnalysisImages, settings: InteractionSettings, folder: Path
) -> dict[str, Measured]:
    """Print the estimated time, then measure with a progress bar."""
    passes = settings.passes_per_image * len(images)
    for network in networks:
        rate = passes_per_second(network, settings)
        time_left = f'{passes} forward passes at {rate:.0f}/s, about {passes / rate:.0f} s'
        print(f'{network.label}: {time_left}')
    start = time.perf_counter()
    with Progress() as bar:
        task = bar.add_task('forward passes', total=passes * len(networks))
        found = measure_interactions(
            networks, images, settings, folder, lambda done: bar.update(task, advance=done)
        )
    print(f'{passes * len(networks)} passes, {time.perf_counter() - start:.0f} s')
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        chosen = {name: getattr(args, name) for name in NAMES} | dict(ratios=tuple(args.ratios))
        settings = InteractionSettings(**chosen, seed=args.seed, batch_size=args.batch_size)
        images, networks = open_images(args, labelled=args.labelled), open_networks(args)
        check_networks(networks, images, settings)
        results = open_results(args, 'Multi-order interactions', **chosen)
        found = measure(networks, images, settings, results.folder / 'parts')
        add_interaction_results(found, settings, results)
        results.finish()
        for label, one in found.items():
            print(f'{label} ({one.output}): {one.summary}')
        print(f'results in {results.folder}')


if __name__ == '__main__':
    main()
