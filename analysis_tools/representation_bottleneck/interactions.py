"""How strongly pairs of image patches interact, by the number of other patches that are visible.

    python analysis_tools/representation_bottleneck/interactions.py NETWORK [NETWORK …] [options]

Multi-order interactions of Deng et al., ICLR 2022, as the A2MIM paper draws them. The defaults of
grid, pairs, contexts and ratios are the published ones. An interrupted measurement goes on with
the same command. docs/interactions.md explains the numbers.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from a2mim.analysis import (
    AnalysisImages,
    Results,
    Subject,
    add_analysis_options,
    open_images,
    open_results,
    open_subjects,
)
from a2mim.analysis.interactions import (
    OUTPUTS,
    PUBLISHED_RATIOS,
    TARGETS,
    InteractionSettings,
    Measured,
    check_subjects,
    draw_interactions,
    estimate_rows,
    file_name,
    interactions,
    measure_interactions,
    passes_per_second,
)
from a2mim.engine.command_line import one_line_errors
from a2mim.weights.files import write_atomically

CAPTION = (
    'Relative strength J of interactions between pairs of neighbouring patches (dimensionless, '
    'mean over orders 1) over the size of their context; bands: 95 % bootstrap intervals over '
    'images and pairs.'
)


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_analysis_options(
        parser, out='work_dirs/analysis/interactions', num_images=20, batch_size=512
    )
    parser.add_argument('--labelled', action='store_true', help='folders in DIR are classes')
    parser.add_argument('--grid', type=int, default=14, help='cells along a side of the image')
    parser.add_argument('--pairs', type=int, default=50, help='of patches, for each image')
    parser.add_argument('--contexts', type=int, default=50, help='for each pair and order')
    parser.add_argument(
        '--ratios', type=float, nargs='+', default=PUBLISHED_RATIOS, help='orders / (patches - 2)'
    )
    parser.add_argument(
        '--output', help=f'{", ".join(OUTPUTS)}; default: modified, for a trunk feature'
    )
    parser.add_argument(
        '--target', choices=TARGETS, default='auto', help='class whose output it is'
    )
    parser.add_argument('--correct-only', action='store_true', help='skip misclassified images')
    return parser.parse_args(args)


def read_settings(args: argparse.Namespace) -> InteractionSettings:
    """The settings of the command line."""
    names = ('grid', 'pairs', 'contexts', 'output', 'target', 'correct_only', 'seed', 'batch_size')
    return InteractionSettings(
        ratios=tuple(args.ratios), **{name: getattr(args, name) for name in names}
    )


def measure(
    subjects: list[Subject], images: AnalysisImages, settings: InteractionSettings, folder: Path
) -> dict[str, Measured]:
    """Say what it costs, then measure with a bar."""
    check_subjects(subjects, images, settings)
    passes = settings.passes_per_image * len(images)
    rates = {subject.label: passes_per_second(subject, settings) for subject in subjects}
    for label, rate in rates.items():
        print(f'{label}: {passes} forward passes at {rate:.0f}/s, about {passes / rate:.0f} s')
    start = time.perf_counter()
    with Progress() as bar:
        task = bar.add_task('forward passes', total=passes * len(subjects))
        found = measure_interactions(
            subjects, images, settings, folder, lambda done: bar.update(task, advance=done)
        )
    print(f'{passes * len(subjects)} passes, {time.perf_counter() - start:.0f} s')
    return found


def table(found: dict[str, Measured], settings: InteractionSettings) -> list[dict]:
    """One row for each network and order."""
    return [
        dict(network=label, output=one.output, **row)
        for label, one in found.items()
        for row in estimate_rows(one.estimate, settings.orders, settings.grid**2)
    ]


def write(found: dict[str, Measured], settings: InteractionSettings, results: Results) -> None:
    """Arrays, table and figure."""
    orders, players = settings.orders, settings.grid**2
    arrays = dict(labels=np.array(list(found)), orders=np.array(orders))
    for index, (label, one) in enumerate(found.items()):
        arrays |= {f'interactions_{index}': interactions(one.delta)}  # (images, orders, pairs)
        arrays |= {f'pairs_{index}': one.pairs, f'images_{index}': one.images}
        arrays |= {f'J_{index}': one.estimate.relative, f'strength_{index}': one.estimate.strength}
        path = results.folder / f'J_{file_name(label)}.npy'
        write_atomically(path, partial(np.save, arr=one.estimate.relative))
    results.add_arrays('interactions', **arrays)
    results.add_table(table(found, settings), 'interactions', CAPTION)
    estimates = {label: one.estimate for label, one in found.items()}
    results.add_figure(draw_interactions(estimates, orders, players), 'interactions', CAPTION)
    results.finish()


def summary(one: Measured) -> str:
    """J by order in words, and why it or its interval is missing."""
    if np.isnan(one.estimate.relative).any():
        return 'no interactions beyond rounding, so J is not defined'
    curve = ' '.join(f'{value:.2f}' for value in one.estimate.relative)
    of = f'{one.estimate.interacting} of {len(one.images)} images have interactions'
    few = ', too few for an interval' if np.isnan(one.estimate.relative_interval).any() else ''
    return f'J = {curve} ({of}{few})'


def main(args: argparse.Namespace) -> None:
    """Measure, print J by order, write results."""
    settings = read_settings(args)
    images = open_images(args, labelled=args.labelled)
    subjects = open_subjects(args)
    names = ('grid', 'pairs', 'contexts', 'ratios', 'output', 'target', 'correct_only')
    check_subjects(subjects, images, settings)
    results = open_results(
        args, 'Multi-order interactions', **{name: getattr(args, name) for name in names}
    )
    found = measure(subjects, images, settings, results.folder / 'parts')
    write(found, settings, results)
    for label, one in found.items():
        print(f'{label} ({one.output}): {summary(one)}')
    print(f'results in {results.folder}')


if __name__ == '__main__':
    with one_line_errors():
        main(parse_args())
