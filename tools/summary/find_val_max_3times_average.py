"""Mean of (maximum + 99th percentile) / 2 of a validation metric over the three latest runs.

    python tools/summary/find_val_max_3times_average.py PATH KEY

PATH is a folder of runs, or one run. KEY is such as accuracy/top1; in logs of OpenMixup head0_top1.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np

from a2mim.analysis.runs import find_runs, high_value, over_runs
from a2mim.engine.command_line import one_line_errors

TIMES = 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('path', help='folder of runs, work dir, or log')
    parser.add_argument('key', metavar='KEY')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        found, notes = over_runs(find_runs(args.path), partial(high_value, key=args.key))
        for note in notes:
            print(note)
        for run, value in found[-TIMES:]:
            print(f'{run.label}: {args.key} {value:.3f}')
        values = [value for _, value in found[-TIMES:]]
        print(f'mean of {len(values)} run(s): {args.key} {np.mean(values):.3f}')


if __name__ == '__main__':
    main()
