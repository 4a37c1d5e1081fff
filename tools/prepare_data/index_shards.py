"""Write the index of WebDataset shards that were made elsewhere, so that training can read them.

    python tools/prepare_data/index_shards.py data/shards

Every tar file of the folder is looked through once; a sample is an image and, if labelled, its
class number under the ending ``.cls``. Shards from ``make_shards.py`` have their index already.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from a2mim.datasets import WebShards
from a2mim.datasets.archives import write_index
from a2mim.engine.command_line import one_line_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='DIR', help='folder of *.tar files')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    root = parse_args(argv).root
    write_index(Path(root))
    source = WebShards(root)
    labels = f'{len(source.classes)} classes' if source.classes else 'no labels'
    print(f'{root}: {len(source)} images in {len(source.shards)} shards, {labels}')


if __name__ == '__main__':
    with one_line_errors():
        main()
