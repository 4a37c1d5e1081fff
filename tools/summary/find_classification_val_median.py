"""Median and maximum of a validation metric over the last epochs of one or several runs.

    python tools/summary/find_classification_val_median.py PATH EPOCHS LAST_N KEY[-KEY...]

PATH is a work dir, a log, or a folder of several runs; a run without the key, or without a
validation after EPOCHS, is skipped with a note. Keys are such as accuracy/top1; in logs of
OpenMixup head0_top1.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np

from a2mim.analysis.runs import find_runs, median_of_last, over_runs
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('path', help='work dir, log, or folder of runs')
    parser.add_argument('epoch_num', type=int, metavar='EPOCHS', help='of the runs')
    parser.add_argument('record_num', type=int, metavar='LAST_N', help='number of last epochs')
    parser.add_argument('key', metavar='KEY[-KEY...]')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        if not 1 <= args.record_num <= args.epoch_num:
            raise ValueError(f'LAST_N {args.record_num} must be 1 to EPOCHS {args.epoch_num}')
        runs = find_runs(args.path)
        for key in args.key.split('-'):
            measure = partial(
                median_of_last, key=key, epochs=args.epoch_num, number=args.record_num
            )
            found, notes = over_runs(runs, measure)
            for note in notes:
                print(note)
            for run, (median, highest) in found:
                print(f'{run.label}: {key} median {median:.3f}, highest {highest:.3f}')
            if len(found) > 1:
                medians = [median for _, (median, _) in found]
                spread = np.std(medians, ddof=1)
                print(f'{len(found)} runs: {key} median {np.mean(medians):.3f} ± {spread:.3f}')


if __name__ == '__main__':
    main()
