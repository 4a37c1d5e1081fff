"""The page of a quick start: its results as JSON and Markdown, beside its pictures."""

import json
from pathlib import Path

from a2mim.quickstart.look import noted
from a2mim.study import Study, read_study
from a2mim.study.evaluation import read_cells
from a2mim.study.page import accuracy_table, legend, sentences
from a2mim.study.results import RESULTS as RECORDS
from a2mim.study.results import read_results
from a2mim.weights.files import write_atomically
from a2mim.weights.released import config_path

STUDY = config_path('quickstart/_base_/runtime').parents[1]
RESULTS, PAGE = 'results.json', 'quickstart.md'


def read_all(folder: Path, study: Study) -> dict:
    """What the parts noted: ``look``, and ``prove``, the record of each run by its name."""
    records = read_results(folder / 'prove' / RECORDS)
    prove = {job.name: records[job.name] for job in study.jobs() if job.name in records}
    look = {name: noted(folder / name) or {} for name in ('look', 'pictures')}
    spent = sum(part['cpu_seconds'] for part in [*prove.values(), *look.values()])
    return dict(
        seeds=list(study.seeds), look=look['pictures'], prove=prove, cpu_seconds=round(spent)
    )


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
    study = read_study(STUDY, results['seeds'])
    cells = read_cells(study, results['prove'])
    spent = f'All runs together took {results["cpu_seconds"]} core-seconds.'
    parts = [look_table(results['look']), accuracy_table(study, cells), sentences(study, cells)]
    return '\n\n'.join([*parts, legend(), spent]) + '\n'


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
