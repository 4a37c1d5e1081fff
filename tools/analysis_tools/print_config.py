"""Print a config with everything that it inherits.

python tools/analysis_tools/print_config.py CONFIG [--cfg-options KEY=VALUE ...]
"""

import argparse
from collections.abc import Sequence

from a2mim.engine.command_line import one_line_errors
from a2mim.engine.config_options import ConfigOptions
from a2mim.engine.launch import load_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE'
    )
    parser.set_defaults(data_root=None)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        print(load_config(args).pretty_text)


if __name__ == '__main__':
    main()
