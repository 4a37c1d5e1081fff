"""Markdown tables of the configs.

Published numbers come from the docstrings of the configs, weights from the table of released
weights, and our own measurements from ``configs/measured.yml``.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from recipe import Recipe

from a2mim.length import AUTO
from a2mim.weights.released import Entry

Row = Sequence[object]


def markdown(header: Row, rows: Iterable[Row]) -> str:
    """Format a Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def recipe_table(
    recipes: Sequence[Recipe],
    published: Mapping[str, Sequence[str]],
    weights: Mapping[str, Sequence[str]],
) -> str:
    """Table of configs, one per row.

    Args:
        recipes: The rows.
        published: Published numbers by config path, from ``published_numbers``.
        weights: Released weight files by config path.
    """
    rows = [
        [
            link(recipe.path),
            f'`{recipe.model}`',
            f'{recipe.dataset}, {recipe.image_size} px',
            cost(recipe),
            '<br>'.join(published.get(recipe.path, ())) or '–',
            '<br>'.join(weights.get(recipe.path, ())) or '–',
        ]
        for recipe in recipes
    ]
    header = ('config', 'timm model', 'data', 'cost', 'published top-1', 'released weights')
    return markdown(header, rows)


def published_numbers(recipes: Sequence[Recipe]) -> dict[str, list[str]]:
    """Published numbers by config path.

    A pre-training result depends on a fine-tuning config of the same data set: the number appears
    in the rows of both, each with a link to the other.

    Raises:
        ValueError: If a pre-training config names a fine-tuning config that does not exist.
    """
    numbers: dict[str, list[str]] = {}
    for recipe in recipes:
        for e in recipe.expectations:
            own = numbers.setdefault(recipe.path, [])
            if not recipe.pretrains:
                own.append(f'{e.value} from {e.recipe} ({e.source})')
                continue
            found = [r for r in recipes if r.name == e.recipe and r.dataset == recipe.dataset]
            if len(found) != 1:
                raise ValueError(
                    f'{recipe.path} expects {e.value} after {e.recipe}, but there are '
                    f'{len(found)} configs of that name on {recipe.dataset}; correct the docstring'
                )
            own.append(f'{e.value} after {link(found[0].path)} ({e.source})')
            other = numbers.setdefault(found[0].path, [])
            other.append(f'{e.value} from {link(recipe.path)} ({e.source})')
    return numbers


def released_file(entry: Entry) -> str:
    """A released file, its parameters, and what was published beside it."""
    file = f'`{entry.file}`'
    facts = [f'[{file}]({entry.url})' if entry.url else file, f'{entry.parameters} M parameters']
    links = dict(log=entry.log, visualisations=entry.visualisations)
    facts += [f'[{name}]({url})' for name, url in links.items() if url]
    return ', '.join(facts) + (f' ({entry.note})' if entry.note else '')


def measured_table(measurements: Sequence[Mapping]) -> str:
    """Table of our own measurements: mean and standard deviation over seeds, and machine."""
    rows = [
        [
            link(entry['config']),
            link(entry['start']) if str(entry['start']).startswith('configs/') else entry['start'],
            entry['metric'],
            mean_and_spread(entry['values']),
            ', '.join(map(str, entry['seeds'])),
            entry['minutes'],
            entry['where'],
        ]
        for entry in measurements
    ]
    header = ('config or tool', 'weights from', 'metric', 'value', 'seeds', 'minutes', 'where')
    return markdown(header, rows)


def deviations_table(recipes: Sequence[Recipe]) -> str:
    """Table of deviations from the published configs; a shared deviation is one row."""
    sharing: dict[str, list[str]] = {}
    for recipe in recipes:
        for text in recipe.deviations:
            sharing.setdefault(text, []).append(link(recipe.path, folders=2))
    rows = [[text[0].upper() + text[1:], '<br>'.join(links)] for text, links in sharing.items()]
    return markdown(('difference and reason', 'configs'), rows)


def cost(recipe: Recipe) -> str:
    """Length of a run in epochs and optimiser steps."""
    steps = '' if recipe.steps is None else f', {recipe.steps:,} steps'
    if recipe.epochs == AUTO:
        return f'about 62,600 steps, 20 to 800 epochs, of batch {recipe.batch}'
    return f'{recipe.epochs} epochs of batch {recipe.batch}{steps}'


def link(path: str, folders: int = 0) -> str:
    """A Markdown link from the repository root, labelled with the file name and parent folders."""
    parts = PurePosixPath(path).with_suffix('').parts
    return f'[{"/".join(parts[-1 - folders :])}](/{path})'


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and, for more than one value, standard deviation."""
    mean = f'{statistics.mean(values):.2f}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.2f}'
