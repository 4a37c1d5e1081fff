r"""Read every image of a folder as training would, and name those that cannot be read.

Exit codes: 0 if all images can be read, 1 if some cannot, 2 if the command itself is wrong.
``xargs -d '\n' -a bad_files.txt rm --`` removes what the second example finds.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a2mim.engine.command_line import (
    add_layout_options,
    check_out,
    layout_options,
    one_line_errors,
)
from a2mim.options import Parser, usable_cores

if TYPE_CHECKING:
    from a2mim.datasets.image_files import StoredImages
    from a2mim.datasets.verification import ImageCheck


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, ['data/photos', 'data/photos --out bad_files.txt'])
    parser.add_place('root', '--data', metavar='DIR', help='folder of images, or of shards')
    parser.add_argument('--channels', type=int, default=3, help='1, 3 or what the files hold')
    parser.add_argument('--workers', type=int, default=usable_cores(), help='processes that read')
    parser.add_argument('--list-file', metavar='FILE', help='only the images that FILE lists')
    parser.add_argument('--out', metavar='FILE', help='write the names of bad files to FILE')
    add_layout_options(parser)
    return parser.parse_args(argv)


def show(source: 'StoredImages', good: 'Sequence[ImageCheck]', bad: 'Sequence[ImageCheck]') -> None:
    """Print the bad files one by one, then what there is in all."""
    import numpy as np

    for result in bad:
        print(f'{source.name(result.index)!r}: {result.reason}')
    print(f'images    {len(good)} can be read, {len(bad)} cannot')
    for kind, number in Counter(result.kind for result in bad).most_common():
        print(f'  {kind:<10} {number}')
    if not good:
        return
    show_values(good)
    sizes = np.array([result.size for result in good])
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind='stable')]
    for name, rank in (('smallest', 0), ('median', len(sizes) // 2), ('largest', -1)):
        print(f'{name:<9} {by_area[rank][0]}×{by_area[rank][1]} pixels (height × width)')
    modes = Counter(result.mode for result in good).most_common()
    print(f'stored as {", ".join(f"{mode} ({number})" for mode, number in modes)}')


def show_values(good: 'Sequence[ImageCheck]') -> None:
    """Print the range of each type of pixels, and missing values."""
    from a2mim.scale import range_warning

    for dtype, number in Counter(result.dtype for result in good).most_common():
        used = [result.used for result in good if result.dtype == dtype]
        low, high = min(low for low, _ in used), max(high for _, high in used)
        print(f'values    {dtype} ({number}), mostly {low:g} to {high:g}')
        if not dtype.startswith('float') and (warning := range_warning(dtype, low, high)):
            print(f'warning   {warning}')
    gaps = [result.filled for result in good if result.filled]
    if gaps:
        print(f'missing   {sum(gaps)} values in {len(gaps)} images: NaN, infinite or nodata')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from rich.console import Console
    from rich.progress import track

    from a2mim.datasets.archives import open_source
    from a2mim.datasets.verification import check_images
    from a2mim.engine.bad_images import write_names

    if args.workers < 0:
        raise ValueError(f'--workers {args.workers} must not be negative')
    check_out(args.out)
    source = open_source(args.root, args.list_file, channels=args.channels, **layout_options(args))
    results = track(
        check_images(source, args.workers), 'reading', len(source), console=Console(stderr=True)
    )
    results = sorted(results)
    bad = [result for result in results if result.kind]
    show(source, [result for result in results if not result.kind], bad)
    if args.out:
        write_names(Path(args.out), [source.name(result.index) for result in bad])
    return int(bool(bad))


if __name__ == '__main__':
    with one_line_errors():
        sys.exit(main())
