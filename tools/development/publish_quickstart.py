"""Put the results of a quick start into the page of the first run, and its files.

    python tools/development/publish_quickstart.py work_dirs/quickstart

The block between the markers in docs/first_run.md becomes the tables of its ``results.json``, which
is copied to configs/quickstart, and its pictures to docs/images.
"""

import argparse
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import a2mim
from a2mim.engine.command_line import one_line_errors
from a2mim.quickstart.page import RESULTS, tables

ROOT = Path(a2mim.__file__).parents[1]
BLOCK = re.compile(r'(<!-- quick start -->\n).*?(<!-- end -->)', re.DOTALL)
PAGE = 'docs/first_run.md'
PICTURES = ('reconstructions', 'spectra')


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, metavar='WORK_DIR')
    folder = parser.parse_args(arguments).folder
    with one_line_errors():
        text = (folder / RESULTS).read_text(encoding='utf-8')
        found = tables(json.loads(text))
        path = root / PAGE
        page = path.read_text(encoding='utf-8')
        path.write_text(BLOCK.sub(lambda m: m[1] + found + m[2], page), encoding='utf-8')
        (root / 'configs/quickstart' / RESULTS).write_text(text, encoding='utf-8')
        for name in PICTURES:
            target = root / f'docs/images/quickstart_{name}.png'
            shutil.copyfile(folder / 'pictures' / f'{name}.png', target)


if __name__ == '__main__':
    main()
