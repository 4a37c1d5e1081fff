"""Write the lists of ``docs/code_tour.md``: which file calls which in a training run.

    python tools/development/make_code_tour.py            write the page
    python tools/development/make_code_tour.py --check    exit with 1 if the page would change

A list stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; what is around it is
written by hand. A training run is traced, which takes about a minute on two cores.
"""

import argparse
import ast
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from traced_run import ROOT, Calls, keep, trace_run

PAGE = ROOT / 'docs/code_tour.md'
BLOCK = re.compile(r'(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end -->)', re.DOTALL)


def first_line(path: Path) -> str:
    """What a module's docstring says first."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return docstring.partition('\n')[0]


def call_list(files: Calls, root: Path = ROOT) -> str:
    """A nested Markdown list of files, each below the file that called it first."""

    def below(caller: str | None, depth: int) -> Iterator[str]:
        for name in (name for name, by in files.items() if by == caller):
            link = f'[{name.removeprefix("a2mim/")}](../{name})'
            yield f'{"  " * depth}- {link}: {first_line(root / name)}\n'
            yield from below(name, depth + 1)

    return ''.join(below(None, 0))


def fill_page(text: str, phases: dict[str, Calls]) -> str:
    """The page with new lists; that of the command leaves out those of the image and the saving."""
    rest = phases['command'].keys() - phases['image'].keys() - phases['save'].keys()
    phases = phases | {'command': keep(phases['command'], rest)}
    return BLOCK.sub(lambda m: f'{m[1]}{call_list(phases[m["name"]])}{m[3]}', text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, or only compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        phases = trace_run(Path(folder))
    before = PAGE.read_text(encoding='utf-8')
    after = fill_page(before, phases)
    if args.check and after != before:
        raise SystemExit(f'{PAGE.relative_to(ROOT)} is outdated: make docs')
    PAGE.write_text(after, encoding='utf-8')


if __name__ == '__main__':
    main()
