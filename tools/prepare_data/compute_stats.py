"""Mean, standard deviation and scale of the pixels below a folder: what ImagePreprocessor takes.

Images are read as in training. Every pixel counts once, so large images weigh more than small
ones. Mean and deviation are those after the scale. The last lines are for a config and for the
command line.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from a2mim.engine.command_line import (
    add_layout_options,
    layout_options,
    one_line_errors,
    read_scale,
)
from a2mim.options import Parser, usable_cores

if TYPE_CHECKING:
    from a2mim.scale import PixelStats, Scale


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'data/photos',
        'data/bands --channels 5',
        'data/microscope --channels 1 --scale percentile',
    ]
    parser = Parser(__doc__, examples)
    parser.add_place('root', '--data', metavar='DIR', help='folder of images, or of shards')
    parser.add_argument('--channels', type=int, default=3, help='1, 3 or what the files hold')
    num_images = ('--num-images', '--max-images')
    evenly = 'N images, evenly spread, instead of all'
    parser.add_argument(*num_images, dest='max_images', type=int, metavar='N', help=evenly)
    parser.add_argument('--workers', type=int, default=usable_cores(), help='processes that read')
    parser.add_argument('--list-file', metavar='FILE', help='only the images that FILE lists')
    parser.add_argument(
        '--scale',
        type=read_scale,
        default='dtype',
        metavar='RULE',
        help='dtype (the range of the type), minmax, percentile (0.1 to 99.9), or LOW,HIGH; '
        'write --scale=-1000,2000 for a negative number',
    )
    add_layout_options(parser)
    return parser.parse_args(argv)


def progress(items: Iterable, number: int) -> Iterable:
    """A bar of the images that are read."""
    from rich.console import Console
    from rich.progress import track

    return track(items, 'reading', number, console=Console(stderr=True))


def show_values(stats: 'PixelStats', scale: 'Scale') -> None:
    """Print types, used range and missing values; warn of a range of which little is used."""
    from a2mim.scale import range_warning

    types = ', '.join(f'{name} ({len(parts)})' for name, parts in stats.parts.items())
    low, high = stats.used_range()
    print(f'values    {types}, mostly {low:g} to {high:g}')
    if missing := stats.filled_note():
        print(f'missing   {missing}')
    if scale == 'dtype' and (warning := range_warning(stats.dtype, low, high)):
        print(f'warning   {warning}')


def as_list(values: Iterable[float]) -> str:
    """``[1.23,4.56]``, without blanks that a shell would split."""
    return f'[{",".join(f"{value:.2f}" for value in values)}]'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    import numpy as np

    from a2mim.datasets.archives import open_source
    from a2mim.scale import MEASURED, measure

    if args.max_images is not None and args.max_images < 1:
        raise ValueError(f'--max-images {args.max_images} must be at least 1')
    source = open_source(args.root, args.list_file, channels=args.channels, **layout_options(args))
    stats = measure(source, args.max_images, args.workers, watch=progress)
    sizes = np.array(stats.sizes)
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind='stable')]
    print(f'images    {len(sizes)} of {len(source)}')
    for name, rank in (('smallest', 0), ('median', len(sizes) // 2), ('largest', -1)):
        print(f'{name:<9} {by_area[rank][0]}×{by_area[rank][1]} pixels (height × width)')
    show_values(stats, args.scale)
    mean, std = stats.mean_and_std(args.scale)
    named, option = dict(mean=as_list(mean), std=as_list(std)), 'model.data_preprocessor'
    if args.scale != 'dtype':
        ends = stats.resolve(args.scale) if args.scale in MEASURED else args.scale
        named['scale'] = str(list(ends)).replace(' ', '')
    print(f'\ndata_preprocessor=dict({", ".join(f"{key}={text}" for key, text in named.items())})')
    print('--cfg-options', *(f"'{option}.{key}={text}'" for key, text in named.items()))


if __name__ == '__main__':
    with one_line_errors():
        main()
