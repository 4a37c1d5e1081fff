"""Write one vector of features for each image of a folder, with the names of the images.

MODEL is a checkpoint, the folder of a run, a backbone, a released name or the name of a timm model.
Worker processes read the images. A run that was killed resumes with the same command: finished
parts are kept in OUT.parts. Images that cannot be read are listed, and their names are in
OUT, too. OUT is read by

    np.load('vectors.npz')  # vectors (N, D), names (N,), unreadable and reasons
    pandas.read_parquet('vectors.parquet')  # name and vector, a row for each image
"""

import argparse
from collections.abc import Sequence

from a2mim.engine.command_line import one_line_errors
from a2mim.options import Parser, add_reading_options, usable_cores

SHOWN = 10  # unreadable images


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = ['data/photos CHECKPOINT --out vectors.npz', '--data DIR --model resnet50']
    parser = Parser(__doc__, examples)
    add = parser.add_argument
    add('places', nargs='*', metavar='DIR MODEL', help='what is not given by --data and --model')
    add('--data', metavar='DIR', help='folder of images or shards, or a list file')
    add('--model', '--checkpoint', '--ckpt', '--from', metavar='MODEL', help='the network')
    add('--out', default='vectors.npz', metavar='FILE', help='.npz, or .parquet with pyarrow')
    add('--batch-size', type=int, default=64, metavar='N', help='images in a pass')
    add('--workers', type=int, default=usable_cores(), metavar='N', help='processes that read')
    add('--device', help='cpu, cuda, …; by default cuda where there is one')
    add('--force', action='store_true', help='replace OUT if it is of other images or weights')
    add_reading_options(parser)
    args = parser.parse_intermixed_args(argv)
    missing = [name for name in ('data', 'model') if getattr(args, name) is None]
    if len(args.places) != len(missing):
        given = f'{len(args.places)} by place and {2 - len(missing)} by options'
        parser.error(f'give DIR and MODEL once each; there are {given}, --data and --model')
    for name, place in zip(missing, args.places, strict=True):
        setattr(args, name, place)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from a2mim.analysis.networks import chosen_device
    from a2mim.analysis.vectors import embed
    from a2mim.weights.safe_load import reading

    device = chosen_device(args.device)
    options = dict(batch_size=args.batch_size, workers=args.workers, force=args.force)
    with reading(args):
        found = embed(args.data, args.model, args.out, device=device, **options)
    bad = found.unreadable
    for name, reason in list(bad.items())[:SHOWN]:
        print(f'unreadable: {name}: {reason}')
    if len(bad) > SHOWN:
        print(f'unreadable: {len(bad) - SHOWN} more, listed in {args.out}')
    number, width = found.vectors.shape
    print(f'{args.out}: {number} vectors of {width} values, {len(bad)} images unreadable')


if __name__ == '__main__':
    with one_line_errors():
        main()
