"""Reduce a checkpoint to its weights and its config, for publication.

Optimizer, log curves and second copies of the weights are dropped; of raw and averaged weights the
averaged ones stay. The config, timm model and options, epoch, seed and versions are kept as
metadata, which tools of this package read. The first eight digits of the SHA-256 are in the name,
as torch.hub's ``check_hash`` expects it: OUT.safetensors becomes OUT-xxxxxxxx.safetensors.
"""

import argparse
from pathlib import Path

from a2mim.engine.command_line import one_line_errors
from a2mim.options import Parser, add_reading_options


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'CHECKPOINT resnet50.safetensors',
        'CHECKPOINT resnet50.pth --config CONFIG',
    ]
    parser = Parser(__doc__, examples)
    place = 'checkpoint, or the folder of a run'
    parser.add_argument('checkpoint', type=Path, metavar='IN', help=place)
    parser.add_argument('output', type=Path, metavar='OUT', help='.safetensors or .pth')
    parser.add_argument(
        '--config', type=Path, metavar='FILE', help='in place of the config that IN carries'
    )
    add_reading_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Write, and print what went along and the whole hash."""
    args = parse_args(arguments)
    # With torch: after the command line has been read.
    from a2mim.weights.config_files import read_config
    from a2mim.weights.publish import publish
    from a2mim.weights.safe_load import checkpoint_of, load_file, reading

    config = read_config(args.config).pretty_text if args.config else None
    checkpoint = checkpoint_of(args.checkpoint)
    with reading(args):
        path, digest = publish(load_file(checkpoint), args.output, config)
    content = load_file(path)
    size = path.stat().st_size / checkpoint.stat().st_size
    print(f'kept    {len(content["state_dict"])} tensors, {size:.0%} of the bytes of IN')
    for key, value in content['meta'].items():
        print(f'{key:<7} {value if key != "cfg" else f"{len(value.splitlines())} lines"}')
    print(f'sha256  {digest}')
    print(f'wrote {path}')


if __name__ == '__main__':
    with one_line_errors():
        main()
