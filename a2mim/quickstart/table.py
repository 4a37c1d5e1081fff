"""The table of the quick start: means over seeds, paired differences, and what they allow to say.

A result is what one classifier reached from one start with one seed: ``accuracy``, ``knn`` and
``linear`` in per cent, and ``loss``, its training loss at the end.
"""

import statistics
from collections.abc import Mapping, Sequence

SCRATCH = 'scratch'
LABELS = {SCRATCH: 'from scratch', 'simmim': 'SimMIM', 'a2mim': 'A2MIM'}
# A gain over a start whose training loss ends higher by more than this says that the other has not
# been trained to its end. With label smoothing of 0.1 and ten classes no loss is below 0.50.
LOSS_MARGIN = 0.1
# By network, start and seed.
Result = Mapping[str, float]
Results = Mapping[str, Mapping[str, Mapping[int, Result]]]
COLUMNS = ('start', 'fine-tuned', 'minus scratch, paired', 'training loss', 'linear probe', 'kNN')


def mean_and_spread(values: Sequence[float], form: str = '.1f') -> str:
    """``mean``, or ``mean ± standard deviation`` of several."""
    text = format(statistics.mean(values), form)
    return text if len(values) == 1 else f'{text} ± {statistics.stdev(values):{form.lstrip("+")}}'


def paired(by_seed: Mapping[int, Result], other: Mapping[int, Result]) -> list[float]:
    """Differences of accuracies in points, of the seeds that both have, in their order."""
    return [
        by_seed[seed]['accuracy'] - other[seed]['accuracy']
        for seed in sorted(by_seed.keys() & other.keys())
    ]


def rows(starts: Mapping[str, Mapping[int, Result]]) -> list[list[str]]:
    """A row per start of one network, see ``COLUMNS``."""
    found = []
    for start, label in LABELS.items():
        by_seed = starts[start]

        def column(name: str, form: str = '.1f', by_seed: Mapping = by_seed) -> str:
            return mean_and_spread([result[name] for result in by_seed.values()], form)

        difference = '–'
        if start != SCRATCH:
            gains = paired(by_seed, starts[SCRATCH])
            difference = f'{mean_and_spread(gains, "+.1f")} (n = {len(gains)})'
        measured = column('loss', '.2f'), column('linear'), column('knn')
        found.append([label, column('accuracy'), difference, *measured])
    return found


def sentence(start: str, starts: Mapping[str, Mapping[int, Result]], other: str = SCRATCH) -> str:
    """What the paired differences of ``start`` and ``other`` allow to say."""
    gains = paired(starts[start], starts[other])
    names = f'{LABELS[start]} against {LABELS[other]}'
    mean = statistics.mean(gains)
    if len(gains) == 1:
        return f'{names}: {mean:+.1f} points with one seed, which says nothing about the spread.'
    spread = statistics.stdev(gains)
    difference = f'{mean:+.1f} ± {spread:.1f} points (n = {len(gains)})'
    losses = [statistics.mean(r['loss'] for r in starts[name].values()) for name in (start, other)]
    higher = losses[1] - losses[0]
    if mean > spread and higher > LOSS_MARGIN:
        return (
            f'{names}: {difference}, but the training loss of {LABELS[other]} ends higher by '
            f'{higher:.2f}: it has not converged, and this is no gain.'
        )
    if abs(mean) <= spread:
        return f'{names}: {difference}, within noise.'
    kind = 'gain' if mean > 0 else 'loss'
    return f'{names}: a {kind} of {difference}, more than its standard deviation over seeds.'


def sentences(starts: Mapping[str, Mapping[int, Result]]) -> list[str]:
    """A sentence per row but the first, and one that compares the two pre-trainings."""
    against_scratch = [sentence(start, starts) for start in LABELS if start != SCRATCH]
    return [*against_scratch, sentence('a2mim', starts, 'simmim')]


def markdown(results: Results) -> str:
    """Table and sentences of every network."""
    parts = []
    for network, starts in results.items():
        lines = [f'| {network}, {" | ".join(COLUMNS)} |', f'|---|{"---:|" * (len(COLUMNS) - 1)}']
        lines += [f'| {" | ".join(row)} |' for row in rows(starts)]
        parts += ['\n'.join(lines), '\n'.join(f'- {line}' for line in sentences(starts))]
    return '\n\n'.join(parts)
