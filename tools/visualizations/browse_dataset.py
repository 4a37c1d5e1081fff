"""Draw training images as stored, augmented, and as the network gets them.

    python tools/visualizations/browse_dataset.py CONFIG [--num 8] [--data-root DIR]

In pre-training the masked blocks have the image's mean colour; in classification the captions of
mixed images have their classes and shares.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.analysis import Results
from a2mim.analysis.dataset_view import draw_view, view_dataset
from a2mim.engine.command_line import one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.engine.launch import load_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of pre-training or of classification')
    parser.add_argument('--num', type=int, default=8, metavar='N', help='images, mixed as a batch')
    parser.add_argument('--seed', type=int, default=0, help='of the choice and of mixing')
    parser.add_argument('--epoch', type=int, default=0, help='of the augmentations, from 0')
    parser.add_argument('--data-root', '--data_root', metavar='DIR', help='read the images there')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    parser.add_argument('--out', default='work_dirs/analysis/dataset', metavar='DIR')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        for name in ('seed', 'epoch'):
            if getattr(args, name) < 0:
                raise ValueError(f'--{name} {getattr(args, name)}: give 0 or more')
        view = view_dataset(load_config(args), args.num, seed=args.seed, epoch=args.epoch)
        names = ('config', 'num', 'seed', 'epoch')
        results = Results(args.out, 'Training images', {n: getattr(args, n) for n in names})
        caption = f'{args.num} training images of {args.config}, epoch {args.epoch}'
        results.add_figure(draw_view(view, Path(args.config).stem), 'dataset', caption)
        results.finish()
        print(f'{args.num} images: {args.out}/dataset.png and .pdf')


if __name__ == '__main__':
    main()
