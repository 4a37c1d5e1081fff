"""Write ``docs/gallery.md``: every figure of the pages, with its caption and its command.

    python tools/development/make_gallery.py            write the page
    python tools/development/make_gallery.py --check    exit with 1 if the page would change

The pages are taken in the order of ``docs/index.md``. The command of a figure is the last block of
commands before it on its page.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/gallery.md'
HEAD = """# Gallery: all figures with their commands

Written by `tools/development/make_gallery.py` from the other pages. The folder `Q=work_dirs/photos`
has the trainings of [analyses](analyses.md).
"""
BLOCK = re.compile(r'^```bash\n((?:(?!```).*\n)+)```|((?:^ {4}[^\n]*\n)+)', re.MULTILINE)
FIGURE = re.compile(r'^!\[[^\]]+\]\((?P<file>images/\S+)\)\\\n\*(?:[^\n]+\n)+', re.MULTILINE)
COMMAND = re.compile(r'^(?:python|bash|a2mim) ', re.MULTILINE)
ASSIGNMENT = re.compile(r'^(\w+)=\S+$', re.MULTILINE)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that the index links to, in its order."""
    index = (root / 'docs/index.md').read_text(encoding='utf-8')
    names = re.findall(r'^- \[[^\]]+\]\((\w+\.md)\)', index, re.MULTILINE)
    return [root / 'docs' / name for name in names if name != PAGE.name]


def command_before(text: str) -> str:
    """The last block of commands of ``text``, after the variables that it takes from others."""
    blocks = [fenced or re.sub('^ {4}', '', other, flags=re.MULTILINE)
              for fenced, other in BLOCK.findall(text)]  # fmt: skip
    command = [block for block in blocks if COMMAND.search(block)][-1]
    variables = {m[1]: m[0] for block in blocks for m in ASSIGNMENT.finditer(block)}
    lines = [line for name, line in variables.items() if f'${name}' in command]
    return '\n'.join([*(line for line in lines if line not in command), command.strip('\n')])


def figures(root: Path = ROOT) -> Iterator[str]:
    """The entry of each figure, once."""
    seen = set()
    for page in pages(root):
        text = page.read_text(encoding='utf-8')
        title = text.partition('\n')[0].removeprefix('# ')
        entries = []
        for match in FIGURE.finditer(text):
            if match['file'] not in seen:
                seen.add(match['file'])
                command = command_before(text[: match.start()])
                entries.append(f'{match[0]}\n```bash\n{command}\n```\n')
        if entries:
            yield '\n'.join([f'## [{title}]({page.name})\n', *entries])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, or only compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(arguments)
    after = '\n'.join([HEAD, *figures()])
    before = PAGE.read_text(encoding='utf-8') if PAGE.is_file() else ''
    if args.check and after != before:
        raise SystemExit(f'{PAGE.relative_to(ROOT)} is outdated: make docs')
    PAGE.write_text(after, encoding='utf-8')


if __name__ == '__main__':
    main()
