"""Parameters of a config, a checkpoint or a timm model, in millions.

python tools/analysis_tools/count_parameters.py CONFIG_OR_NAME
"""

import argparse
from collections.abc import Sequence

from a2mim.analysis.model_costs import count_parameters, open_model
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config, checkpoint, or name of a timm model')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        count = count_parameters(open_model(args.config))
        print(f'backbone parameters: {count.backbone / 1e6:.5g} M')
        print(f'backbone trainable parameters: {count.backbone_trainable / 1e6:.5g} M')
        print(f'total parameters: {count.total / 1e6:.5g} M')
        print(f'total trainable parameters: {count.total_trainable / 1e6:.5g} M')


if __name__ == '__main__':
    main()
