"""Measure the package: its size, how many files one idea is spread over, its tests.

    python tools/development/measure_package.py            a table
    python tools/development/measure_package.py --json     the same for a program
    python tools/development/measure_package.py --types    with the errors that pyright finds

A training run is traced (about a minute on two cores) and all tests are collected.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from statistics import median

from traced_run import ROOT, trace_run

Graph = dict[str, set[str]]


def python_files(folder: Path) -> dict[Path, str]:
    """Text of every Python file in a folder."""
    return {path: path.read_text(encoding='utf-8') for path in sorted(folder.rglob('*.py'))}


def count_lines(files: dict[Path, str]) -> list[int]:
    """Number of lines of each file."""
    return [len(text.splitlines()) for text in files.values()]


def import_circles(root: Path, files: dict[Path, str]) -> list[list[str]]:
    """Modules and folders of one folder that import each other, directly or through others.

    An import counts where it runs when its module is imported. An import from another folder joins
    the two folders that lie side by side; what importing ``a.b.c`` runs of ``a.b`` is not counted.
    """
    modules = {path.relative_to(root).with_suffix('').parts: text for path, text in files.items()}
    names = {'.'.join(parts).removesuffix('.__init__'): parts for parts in modules}
    graph: Graph = defaultdict(set)
    for parts, text in modules.items():
        for imported in _imports(ast.parse(text), names.keys()):
            other = names[imported]
            if other != parts:
                pairs = enumerate(zip(parts, other, strict=False), 1)
                shared = next(length for length, (a, b) in pairs if a != b)
                graph['.'.join(parts[:shared])].add('.'.join(other[:shared]))
    return _circles(graph)


def _imports(node: ast.AST, modules: Set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    elif isinstance(node, ast.ImportFrom) and node.module in modules:
        for alias in node.names:
            inner = f'{node.module}.{alias.name}'
            yield inner if inner in modules else node.module
    elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
        return
    elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, modules)


def _circles(graph: Graph) -> list[list[str]]:
    def reachable(name: str) -> set[str]:
        found, waiting = set(), [name]
        while waiting:
            new = graph.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    reached = {name: reachable(name) for name in graph}
    mutual = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(mutual)]


def measure_text(root: Path) -> dict[str, object]:
    """What can be counted without running anything."""
    package = python_files(root / 'a2mim')
    lines = count_lines(package)
    return {
        'files in a2mim/': len(package),
        'median lines': median(lines),
        'lines in a2mim/': sum(lines),
        'import circles inside a folder': import_circles(root, package),
        'lines of tests': sum(count_lines(python_files(root / 'tests'))),
    }


def measure_run() -> dict[str, object]:
    """Files that a training run enters."""
    with tempfile.TemporaryDirectory() as folder:
        phases = trace_run(Path(folder))
    return {
        'files from the command to the end of the first step': len(phases['command']),
        'files from an image to the loss': len(phases['image']),
        'files that save a checkpoint': len(phases['save']),
        'files that resume from a checkpoint': len(phases['load']),
    }


def run_python(*arguments: str) -> str:
    """Output of ``python -m ARGUMENTS``."""
    command = [sys.executable, '-m', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def count_tests() -> int:
    """Number of tests, whatever their marks."""
    text = run_python('pytest', '--collect-only', '-q', '-m', '', '-p', 'no:cacheprovider')
    found = re.search(r'^(\d+) tests collected in', text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f'pytest cannot collect every test:\n{text[-2000:]}')
    return int(found[1])


def count_type_errors() -> int:
    """Number of errors that pyright finds with the settings of pyproject.toml."""
    text = run_python('pyright', 'a2mim', '--outputjson', '--pythonpath', sys.executable)
    return json.loads(text)['summary']['errorCount']


def as_table(measures: dict[str, object]) -> str:
    """Markdown; of import circles their number and members."""
    lines = ['| measure | value |', '|---|---:|']
    for name, value in measures.items():
        if isinstance(value, list):
            value = '; '.join([str(len(value)), *map(', '.join, value)])
        lines.append(f'| {name} | {value} |')
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--types', action='store_true', help='also count the errors of pyright')
    args = parser.parse_args(arguments)
    measures = measure_text(ROOT) | measure_run() | {'tests': count_tests()}
    if args.types:
        measures['pyright errors'] = count_type_errors()
    print(json.dumps(measures, indent=2) if args.json else as_table(measures))


if __name__ == '__main__':
    main()
