"""The page of a quick start: its results as JSON and Markdown, beside its pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

from a2mim.quickstart.runs import NETWORKS, RESULT, noted
from a2mim.quickstart.table import LABELS, markdown
from a2mim.weights.files import write_atomically

RESULTS, PAGE = 'results.json', 'quickstart.md'


def read_results(folder: Path, seeds: Sequence[int]) -> dict:
    """What the runs of ``folder`` noted: ``look``, and ``prove`` by network, start and seed.

    A seed of which a start is missing is left out, so that every row has the same seeds.
    """
    prove = {}
    for network in NETWORKS:
        places = {seed: folder / f'seed{seed}' / network.label for seed in seeds}
        found = {
            seed: {start: noted(place / f'finetune_{start}') for start in LABELS}
            for seed, place in places.items()
        }
        whole = [
            seed for seed, of in found.items() if all(one and 'knn' in one for one in of.values())
        ]
        if whole:
            prove[network.name] = {
                start: {str(seed): found[seed][start] for seed in whole} for start in LABELS
            }
    trained = [noted(path.parent) or {} for path in folder.rglob(RESULT)]
    spent = sum(one.get('cpu_seconds', 0.0) for one in trained)
    look = noted(folder / 'pictures')
    return dict(seeds=list(seeds), look=look, prove=prove, cpu_seconds=spent)


def by_seed(results: dict) -> dict:
    """``prove`` with seeds as numbers, which JSON has as text."""
    return {
        network: {
            start: {int(seed): found for seed, found in entries.items()}
            for start, entries in starts.items()
        }
        for network, starts in results['prove'].items()
    }


def look_table(look: dict) -> str:
    """Errors in masked blocks of held-out photographs, as Markdown."""
    lines = ['| masked blocks show | L1 (s.d.) | SSIM |', '|---|---:|---:|']
    lines += [
        f'| {label} | {found["l1"]:.3f} | {found["ssim"]:.3f} |'
        for label, found in look['methods'].items()
    ]
    share = look['share_better_than_fill']
    lines.append(
        f'\nBetter than the mean fill on {100 * share["l1"]:.0f} % (L1) and '
        f'{100 * share["ssim"]:.0f} % (SSIM) of {look["images"]} held-out images under '
        f'{look["masks"]} masks each.'
    )
    return '\n'.join(lines)


def tables(results: dict) -> str:
    """Both tables with their sentences, as Markdown."""
    seeds = ', '.join(map(str, results['seeds']))
    title = f'Top-1 accuracy in % of 500 test digits, 2 labels of each class, seeds {seeds}'
    spent = f'All runs together took {results["cpu_seconds"]:.0f} core-seconds.'
    parts = [look_table(results['look']), f'{title}:', markdown(by_seed(results)), spent]
    return '\n\n'.join(parts) + '\n'


def write_page(folder: Path, results: dict) -> str:
    """Write JSON and Markdown into ``folder``; the tables."""
    found = tables(results)
    page = (
        '# Quick start\n\n![reconstructions](pictures/reconstructions.png)\n\n'
        f'![spectra](pictures/spectra.png)\n\n{found}'
    )
    for name, text in ((RESULTS, json.dumps(results, indent=1) + '\n'), (PAGE, page)):
        data = text.encode()
        write_atomically(folder / name, lambda file, data=data: file.write(data), len(data))
    return found
