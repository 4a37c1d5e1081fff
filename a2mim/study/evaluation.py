"""Statistics of a study: accuracies of each cell, paired differences, seeds that are needed.

A cell is a network, a start and a label count; its seeds are its sample. Two starts of a network
and label count are compared by the differences of equal seeds, which share the order of images and
the draw of labels. Failed runs count as failed and enter no mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from a2mim.study.matrix import FINAL, Job, Study
from a2mim.study.results import FINISHED

MARGIN = 0.05  # of the cross-entropy: more, and a baseline has not been trained as far
PROBES = ('linear', 'knn')
LEVEL = 0.95  # of confidence intervals
POWER, ALPHA = 0.8, 0.05
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Cell:
    """The final runs of a network, start and label count.

    Attributes:
        accuracy: Top-1 on test in percent, by seed.
        loss: Final training loss, by seed.
        probes: 'linear' and 'knn', accuracies of the features at the start in percent, by seed.
        rates: The learning rates that were chosen.
        failed: Seeds of failed runs.
    """

    network: str
    start: str
    labels: str
    accuracy: dict[int, float]
    loss: dict[int, float]
    probes: dict[str, dict[int, float]]
    rates: tuple[float, ...]
    failed: tuple[int, ...]


def read_cells(study: Study, results: Mapping[str, dict]) -> dict[tuple[str, str, str], Cell]:
    """Cells by (network, label count, start), in the order of the matrix."""
    cells = {}
    for job in study.cells(study.seeds[:1]):
        records = {
            seed: results[name]
            for seed in study.seeds
            if (name := Job(FINAL, job.network, job.start, seed, job.labels).name) in results
        }
        done = {seed: r for seed, r in records.items() if r['status'] == FINISHED}
        cells[job.network, str(job.labels), job.start] = Cell(
            network=job.network,
            start=job.start,
            labels=str(job.labels),
            accuracy={seed: r['accuracy'] for seed, r in done.items()},
            loss={seed: r['train_loss'] for seed, r in done.items()},
            probes={name: {seed: r[name] for seed, r in done.items()} for name in PROBES},
            rates=tuple(sorted({r['rate'] for r in done.values()})),
            failed=tuple(seed for seed in records if seed not in done),
        )
    return cells


@dataclass(frozen=True)
class Comparison:
    """Paired differences of two cells, in points of accuracy.

    Attributes:
        n: Number of seeds that both cells have.
        mean, deviation: Of the differences; the deviation is NaN for one seed.
        interval: 95 % confidence interval of the mean difference, by Student's t.
        refusal: Why no difference is reported; then the numbers are NaN.
    """

    n: int
    mean: float = math.nan
    deviation: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    refusal: str = ''


def compare(cell: Cell, baseline: Cell, margin: float = MARGIN) -> Comparison:
    """The difference of ``cell`` and ``baseline``; no gain over one that was trained less far.

    Args:
        cell: A network, start and label count.
        baseline: Another start of the same network and label count.
        margin: How much higher the baseline's final training loss may be, mean of shared seeds.
    """
    seeds = sorted(cell.accuracy.keys() & baseline.accuracy.keys())
    if not seeds:
        return Comparison(0, refusal='no seed of both is finished')
    losses = [np.mean([each.loss[seed] for seed in seeds]) for each in (baseline, cell)]
    gains = [cell.accuracy[seed] - baseline.accuracy[seed] for seed in seeds]
    if losses[0] - losses[1] > margin and np.mean(gains) > 0:
        return Comparison(
            len(seeds),
            refusal=f'the baseline has a training loss of {losses[0]:.2f} at its end, this one '
            f'{losses[1]:.2f}: not trained as far',
        )
    return paired(gains)


def sentence(found: Comparison) -> str:
    """What a comparison allows to say."""
    if found.refusal:
        return f'no gain is claimed: {found.refusal}'
    if found.n == 1:
        return f'{found.mean:+.1f} points with one seed, which says nothing about the spread'
    points = f'{found.mean:+.1f} ± {found.deviation:.1f} points (n = {found.n})'
    if abs(found.mean) <= found.deviation:
        return f'{points}, within noise'
    kind = 'gain' if found.mean > 0 else 'loss'
    return f'a {kind} of {points}, more than its standard deviation over seeds'


def paired(gains: Sequence[float]) -> Comparison:
    """Mean, standard deviation and confidence interval of differences."""
    n, mean = len(gains), float(np.mean(gains))
    if n == 1:
        return Comparison(n, mean)
    deviation = float(np.std(gains, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * deviation / math.sqrt(n)
    return Comparison(n, mean, deviation, (mean - half, mean + half))


def power(difference: float, deviation: float, n: int) -> float:
    """Probability that a two-sided paired t-test at 5 % with ``n`` seeds finds a difference.

    Args:
        difference: The true mean of the paired differences.
        deviation: Their standard deviation.
        n: Number of pairs, at least 2.
    """
    shift = difference / deviation * math.sqrt(n)
    critical = float(stats.t.ppf(1 - ALPHA / 2, n - 1))
    tails = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    return float(tails)


def seeds_needed(difference: float, deviation: float) -> int | None:
    """The fewest seeds with which such a test has a power of 80 %; None above 100,000.

    Raises:
        ValueError: If ``difference`` or ``deviation`` is not positive.
    """
    if not (difference > 0 and deviation > 0):
        raise ValueError(
            f'difference={difference} and deviation={deviation} must be positive numbers'
        )
    low, high = 1, 2
    while power(difference, deviation, high) < POWER:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(difference, deviation, middle) < POWER:
            low = middle
        else:
            high = middle
    return high
