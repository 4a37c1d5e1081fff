"""The page of a study: tables in Markdown, and a plot with the points of all seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from a2mim.study.evaluation import (
    LEVEL,
    MARGIN,
    PROBES,
    Cell,
    Comparison,
    compare,
    read_cells,
    seeds_needed,
    sentence,
)
from a2mim.study.matrix import Study
from a2mim.study.results import FAILED

PAPER = (0.4, 0.8)  # points by which the paper's A2MIM exceeds SimMIM after fine-tuning
DPI = 120
Cells = Mapping[tuple[str, str, str], Cell]


def write_page(study: Study, results: Mapping[str, dict], plot: str, margin: float = MARGIN) -> str:
    """All tables of a study as Markdown; before its first result, the state alone.

    Args:
        study: The matrix.
        results: Records by the name of the run.
        plot: Address of the picture.
        margin: See ``compare``.
    """
    cells = read_cells(study, results)
    if not any(cell.accuracy for cell in cells.values()):
        return state_line(study, results)
    alternative = 'Accuracy of every seed by start, in a panel for each network and label count'
    picture = f'![{alternative}]({plot})\\\n*Points are seeds, lines are means.*'
    parts = [state_line(study, results), picture]
    parts += [accuracy_table(study, cells, margin), sentences(study, cells, margin)]
    parts += [differences_table(study, cells, margin), seeds_table(study, cells, margin)]
    parts += [legend(margin)]
    return '\n\n'.join(filter(None, parts))


def state_line(study: Study, results: Mapping[str, dict]) -> str:
    """How much is done: of the final runs, and of all."""
    final = [job.name for job in study.cells(study.seeds)]
    jobs = [job.name for job in study.jobs()]
    done, runs = (sum(name in results for name in names) for names in (final, jobs))
    failed = [name for name in jobs if results.get(name, {}).get('status') == FAILED]
    state = 'Complete' if done == len(final) else '**Not complete**'
    seconds = sum(results[name]['cpu_seconds'] for name in jobs if name in results)
    commits = sorted({results[name]['commit'] for name in jobs if name in results})
    lines = f'{state}: {done} of {len(final)} cells × seeds, {runs} of {len(jobs)} runs in all'
    lines += f' ({seconds / 3600:.1f} hours of one core; commits {", ".join(commits) or "none"}).'
    return lines + (f' Failed, in no mean: {", ".join(failed)}.' if failed else '')


def accuracy_table(study: Study, cells: Cells, margin: float = MARGIN) -> str:
    """A row for each cell: accuracy, gain over the first start, final loss, rates, failures."""
    baseline = next(iter(study.starts))
    head = ['network', 'labels per class', 'start', 'n', 'top-1', f'gain over {baseline}']
    rows = [
        [
            *(cell.network, labels, start, str(len(cell.accuracy))),
            spread([*cell.accuracy.values()]),
            ''
            if start == baseline
            else gain(compare(cell, cells[network, labels, baseline], margin)),
            spread([*cell.loss.values()], 3),
            *(spread([*cell.probes[name].values()]) for name in PROBES),
            ', '.join(f'{rate:g}' for rate in cell.rates),
            str(len(cell.failed)),
        ]
        for (network, labels, start), cell in cells.items()
    ]
    head += ['final training loss', 'linear probe', 'kNN', 'learning rate', 'failed']
    return markdown(head, rows)


def short_table(
    study: Study, results: Mapping[str, dict], starts: Sequence[str], margin: float = MARGIN
) -> str:
    """A row for each network and label count: the first start, ``starts``, and A2MIM's gain.

    Args:
        study: The matrix.
        results: Records by the name of the run.
        starts: Columns beside the first start; a network without one has a dash there.
        margin: See ``compare``.
    """
    cells, baseline = read_cells(study, results), next(iter(study.starts))
    columns, rows = [baseline, *starts], []
    for network, labels in dict.fromkeys(key[:2] for key in cells):
        found = [cells.get((network, labels, start)) for start in columns]
        values = [spread([*cell.accuracy.values()] if cell else []) for cell in found]
        ours, first = (cells[network, labels, start] for start in ('a2mim', baseline))
        rows.append([network, labels, *values, gain(compare(ours, first, margin))])
    return markdown(['network', 'labels per class', *columns, f'a2mim − {baseline}'], rows)


def sentences(study: Study, cells: Cells, margin: float = MARGIN) -> str:
    """One for each row with a pre-training, and one that compares A2MIM with SimMIM."""
    baseline, lines = next(iter(study.starts)), []
    for (network, labels, start), cell in cells.items():
        others = [] if start == baseline else [baseline]
        others += ['simmim'] if start == 'a2mim' and 'simmim' in study.starts else []
        for other in others:
            found = compare(cell, cells[network, labels, other], margin)
            if found.n:
                names = f'{network}, {labels} labels per class, {start} against {other}'
                lines.append(f'- {names}: {sentence(found)}.')
    return '\n'.join(lines)


def differences_table(study: Study, cells: Cells, margin: float) -> str:
    """A2MIM's start, by name the one that others extend, against every other pre-training."""
    others = [start for start, changes in study.starts.items() if changes is not None]
    if 'a2mim' not in others:
        return ''
    rows = [
        [
            network,
            labels,
            f'a2mim − {start}',
            gain(compare(cells[network, labels, 'a2mim'], cell, margin)),
        ]
        for (network, labels, start), cell in cells.items()
        if start in others and start != 'a2mim'
    ]
    return markdown(['network', 'labels per class', 'paired difference', 'points'], rows)


def seeds_table(study: Study, cells: Cells, margin: float) -> str:
    """Seeds with which a test would find the paper's differences, from the measured deviation."""
    rows = []
    for (network, labels, start), cell in cells.items():
        if start != 'simmim' or 'a2mim' not in study.starts:
            continue
        found = compare(cells[network, labels, 'a2mim'], cell, margin)
        if found.n > 1 and found.deviation > 0:
            needed = [seeds_needed(points, found.deviation) for points in PAPER]
            numbers = [f'{n:,}' if n else 'more than 100,000' for n in needed]
            rows.append([network, labels, str(found.n), f'{found.deviation:.1f}', *numbers])
    heads = [f'seeds for {points} points' for points in PAPER]
    head = ['network', 'labels per class', 'n', 's.d. of a2mim − simmim', *heads]
    return markdown(head, rows)


def legend(margin: float = MARGIN) -> str:
    """What the numbers are."""
    return (
        'Top-1 accuracy in % on test images, mean ± standard deviation over n seeds; a seed '
        'changes pre-training, label draw and order together. Differences are paired by seed, with '
        f"{LEVEL:.0%} intervals of the mean by Student's t. No gain is given where the "
        f'training loss of the baseline is higher at the end by more than {margin:g}. The learning '
        f'rate is the best of three on validation images with another seed, for each row. Linear '
        f'probe and kNN classify by the features that fine-tuning starts from, with its labels.'
    )


def gain(found: Comparison) -> str:
    """A difference with its deviation, interval and n, or why there is none."""
    if found.refusal:
        return found.refusal
    if math.isnan(found.deviation):
        return f'{found.mean:+.1f} (n = 1)'
    low, high = found.interval
    return f'{found.mean:+.1f} ± {found.deviation:.1f} ({low:+.1f} to {high:+.1f}, n = {found.n})'


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, of several, standard deviation; a dash for none."""
    if not values:
        return '–'
    text = f'{np.mean(values):.{digits}f}'
    return text if len(values) == 1 else f'{text} ± {np.std(values, ddof=1):.{digits}f}'


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, or nothing without rows."""
    if not rows:
        return ''
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def draw_plot(study: Study, results: Mapping[str, dict], path: Path) -> None:
    """Accuracy of every seed and the mean, a panel for each network and label count."""
    cells = read_cells(study, results)
    panels: dict[tuple[str, str], list] = {}
    for key in cells:
        panels.setdefault(key[:2], []).append(key)
    columns = len(study.labels)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.5 * columns, 2.6 * rows), layout='constrained')
    for place, ((network, labels), keys) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        for x, key in enumerate(keys):
            values = [*cells[key].accuracy.values()]
            axes.plot([x] * len(values), values, 'o', color='tab:blue', alpha=0.6, markersize=5)
            if values:
                mean = float(np.mean(values))
                axes.plot([x - 0.25, x + 0.25], [mean, mean], color='black')
        axes.set_xticks(range(len(keys)), [key[2] for key in keys], rotation=20, fontsize=7)
        axes.set_xlim(-0.5, len(keys) - 0.5)
        axes.set_title(f'{network}, {labels} labels per class', fontsize=9)
        axes.set_ylabel('top-1 in %', fontsize=8)
        axes.grid(axis='y', alpha=0.3)
    # Without the version of matplotlib the same points give the same file.
    figure.savefig(path, dpi=DPI, metadata={'Software': None})
