"""All benchmarks of the CPU in turn, and the table of the figures to reach.

    python tools/benchmarks/all.py --json figures.json          # 6 minutes on two quiet cores
    python tools/benchmarks/all.py --json figures.json --tiny   # to try the scripts

Each benchmark is a command of its own. What it prints goes to the JSON file as soon as it ends, so
that an interrupted run keeps it; a second run with the same file repeats only what is missing.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


@dataclass
class Figure:
    """A row of the table.

    Attributes:
        measure: What is measured.
        target: What to reach.
        row: Beginning of the first cell of the row that has it, the last such row.
        columns: Beginnings of the titles of its columns, in the last table of the benchmark.
    """

    measure: str
    target: str
    row: str
    columns: tuple[str, ...]


@dataclass
class Benchmark:
    """A command below this folder.

    Attributes:
        words: Script and options.
        tiny: Options in place of those, to try it.
        figures: What to take from its table.
    """

    words: str
    tiny: str
    figures: tuple[Figure, ...] = ()


QUIET = '--threads 1 --clock processor'
BENCHMARKS = (
    Benchmark(
        f'train_step.py --models resnet50 --batch 16 --rounds 5 {QUIET}',
        '--models resnet50 --reduced --rounds 1 --batch 2',
        (Figure('ResNet-50 step / timm supervised, batch 16', '≥ 0.92', 'resnet50', ('ratio',)),),
    ),
    Benchmark(
        f'train_step.py --models vit_base convnext_small --batch 4 --rounds 4 {QUIET}',
        '--models vit_base convnext_small --reduced --rounds 1 --batch 2',
        (
            Figure('ViT-B step / timm supervised, batch 4', '≥ 0.98', 'vit_base', ('ratio',)),
            Figure('ConvNeXt-S step, the same', '≥ 0.97', 'convnext_small', ('ratio',)),
        ),
    ),
    Benchmark(
        'two_processes.py --batch 8 --rounds 3 --threads 1',
        '--reduced --batch 2 --rounds 1',
        (
            Figure('two processes, ResNet-50: host waits', '0', 'resnet50', ('host waits',)),
            Figure(
                'its batch norms; collectives forward, backward',
                '≤ one per layer and direction',
                'resnet50',
                ('joint batch norms', 'their collectives', 'backward'),
            ),
            Figure('its step / timm, joint batch norm', '–', 'resnet50', ('ratio to timm, joint',)),
        ),
    ),
    Benchmark(
        'history.py --repeats 20 --rounds 9 --clock processor --threads 1',
        '--repeats 1 --rounds 1 --lengths 10 200',
        (Figure('step at 1 M history / at 1 k', '≤ 1.02', '', ('times the first',)),),
    ),
    Benchmark(
        f'decoding.py --batches 64 --rounds 5 {QUIET}',
        '--batches 1 --rounds 1',
        (Figure('neck + head, ResNet-50, batch 64, times faster', '≥ 1.8', '64', ('times',)),),
    ),
    Benchmark(
        'loader.py --rounds 5',
        '--files 1 --rounds 1',
        (
            Figure('loader / bare decode of the same files', '≥ 0.6', '500×375', ('its share',)),
            Figure('loader / classic path', '≥ 3', '500×375', ('ratio',)),
        ),
    ),
    Benchmark(
        'start_up.py --rounds 3 --clock wall',
        '--rounds 1',
        (Figure('command to first step, quick start, s', '≤ 5', 'to the first step', ('s',)),),
    ),
    Benchmark(
        'index_memory.py',
        '--paths 1000',
        (Figure('index memory, 1 M paths, longest 250 bytes, MB', '≤ 80', '', ('held',)),),
    ),
)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in ``text``, a dict by column title for each row."""
    found: list[list[dict[str, str]]] = []
    titles: list[str] = []
    for line in [*text.splitlines(), '']:
        if not line.startswith('|'):
            titles = []
        elif not titles:
            titles = cells(line)
            found.append([])
        elif set(line) - set('|-: '):
            found[-1].append(dict(zip(titles, cells(line), strict=False)))
    return found


def cells(line: str) -> list[str]:
    """Of a row, without the stars of bold ones."""
    return [cell.strip().strip('*') for cell in line.strip().strip('|').split('|')]


def value_of(figure: Figure, table: list[dict[str, str]]) -> str | None:
    """What ``table`` says, None if it has no such row or column."""
    rows = [row for row in table if next(iter(row.values())).startswith(figure.row)]
    if not rows:
        return None
    found = []
    for column in figure.columns:
        named = [title for title in rows[-1] if title.startswith(column)]
        if not named:
            return None
        found.append(rows[-1][named[0]])
    return ', '.join(found)


def run(words: Sequence[str]) -> dict:
    """Run a benchmark; its exit code, seconds and text."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(FOLDER / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )
    seconds = round(time.monotonic() - started)
    return dict(code=done.returncode, seconds=seconds, text=done.stdout, errors=done.stderr[-2000:])


def print_figures(found: dict[str, dict], tiny: bool) -> None:
    """The rows of the table, ready for the page."""
    print('\n| measure | to reach | measured | command |\n|---|---:|---:|---|')
    for benchmark in BENCHMARKS:
        result = found.get(benchmark.words)
        table = (tables(result['text']) or [[]])[-1] if result else []
        for figure in benchmark.figures:
            value = value_of(figure, table) or 'not measured'
            note = ', tiny' if tiny else ''
            words = f'`{benchmark.words}`{note}'
            print(f'| {figure.measure} | {figure.target} | {value} | {words} |')


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--json', type=Path, required=True, metavar='FILE', help='of the results')
    parser.add_argument('--tiny', action='store_true', help='to try the scripts')
    parser.add_argument('--only', nargs='+', metavar='SCRIPT', help='such as history.py')
    args = parser.parse_args(argv)
    found: dict[str, dict] = json.loads(args.json.read_text()) if args.json.exists() else {}
    for benchmark in BENCHMARKS:
        script = benchmark.words.split()[0]
        if args.only and script not in args.only:
            continue
        if found.get(benchmark.words, {}).get('code') == 0:
            continue
        words = [script, *shlex.split(benchmark.tiny)] if args.tiny else benchmark.words.split()
        print(f'\n$ python tools/benchmarks/{shlex.join(words)}', flush=True)
        result = found[benchmark.words] = run(words)
        args.json.write_text(json.dumps(found, indent=1) + '\n')
        said = result['text'] if result['code'] == 0 else result['errors']
        print(f'{said}\n({result["seconds"]} s)', flush=True)
    print_figures(found, args.tiny)
    failed = [words for words, result in found.items() if result['code']]
    if failed:
        raise SystemExit(f'failed: {", ".join(failed)}; run it again to repeat them')


if __name__ == '__main__':
    main()
