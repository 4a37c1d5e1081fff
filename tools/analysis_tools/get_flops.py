"""Operations of one forward pass of a config, a checkpoint or a timm model.

    python tools/analysis_tools/get_flops.py CONFIG_OR_NAME [--shape H [W]]

Published "FLOPs" are multiply-accumulates; both are printed.
"""

import argparse
from collections.abc import Sequence

from a2mim.analysis.model_costs import count_macs, count_parameters, open_model
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config, checkpoint, or name of a timm model')
    parser.add_argument(
        '--shape', type=int, nargs='+', metavar='PX', help='H W, or a side; else as it was made for'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        shape = args.shape and tuple(args.shape * 2 if len(args.shape) == 1 else args.shape)
        if shape and (len(shape) != 2 or min(shape) < 1):
            given = ' '.join(map(str, args.shape))
            raise ValueError(f'--shape {given}: give one side or H W, in pixels')
        model = open_model(args.config)
        parameters = count_parameters(model).total
        macs = count_macs(model, shape)
        print(f'multiply-accumulates (published as "FLOPs"): {macs / 1e9:.4g} G')
        print(f'floating-point operations: {2 * macs / 1e9:.4g} G')
        print(f'parameters: {parameters / 1e6:.5g} M')


if __name__ == '__main__':
    main()
