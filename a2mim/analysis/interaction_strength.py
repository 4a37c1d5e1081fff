"""Strength of interactions by order, with bootstrap confidence intervals, and its figure.

Axes: T images, M orders, P pairs, C contexts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

BOOTSTRAPS = 1000
CONFIDENCE = 0.95
ROUNDING = 1e-5  # of |v|: rounding error of single precision in an interaction that is zero


@dataclass(frozen=True)
class Estimate:
    """Interactions of one network, (M,) unless a shape is given.

    Attributes:
        strength: Î, mean over images and pairs of |I|, in units of v.
        strength_interval: (2, M), low and high.
        relative: J, strength divided by its mean over orders, dimensionless; NaN if no pair
            interacts beyond rounding.
        relative_interval: (2, M), low and high; NaN also if a bootstrap sample had no interacting
            pair.
        chance: Expected strength from the finite number of contexts if every I were 0.
        interacting: Number of images in which a pair interacts beyond rounding.
    """

    strength: np.ndarray
    strength_interval: np.ndarray
    relative: np.ndarray
    relative_interval: np.ndarray
    chance: np.ndarray
    interacting: int


def interactions(delta: np.ndarray) -> np.ndarray:
    """I: mean of Δv (..., C) over the measured contexts, (...)."""
    return np.nanmean(delta.astype(np.float64), axis=-1)


def estimate_strength(delta: np.ndarray, scale: float, seed: int = 0) -> Estimate:
    """Means and 95 % bootstrap intervals over images and pairs.

    Images are drawn with replacement, then pairs of each, the same for all orders. With 25 images
    the intervals contained the true value in 92 % of 150 trials. ``delta`` is Δv (T, M, P, C), NaN
    where not measured, and ``scale`` the largest |v|.
    """
    if len(delta) < 2:
        raise ValueError(f'{len(delta)} image: a confidence interval needs at least 2')
    magnitude = np.abs(interactions(delta))  # (T, M, P)
    strength = magnitude.mean(axis=(0, 2))
    drawn = _bootstrap(magnitude, seed)  # (BOOTSTRAPS, M)
    tail = (1 - CONFIDENCE) / 2
    limits = (tail, 1 - tail)
    interacting = int((magnitude > ROUNDING * scale).any(axis=(1, 2)).sum())
    relative, interval = _relative(strength, drawn, limits, interacting)
    return Estimate(
        strength,
        np.quantile(drawn, limits, axis=0),
        relative,
        interval,
        _chance(delta),
        interacting,
    )


def _relative(
    strength: np.ndarray, drawn: np.ndarray, limits: tuple[float, float], interacting: int
) -> tuple[np.ndarray, np.ndarray]:
    """J and its interval; both NaN without interactions, the interval also if a draw has none."""
    undefined = np.full_like(strength, np.nan)
    if not interacting:
        return undefined, np.stack([undefined, undefined])
    means = drawn.mean(axis=1, keepdims=True)
    if not means.all():
        return strength / strength.mean(), np.stack([undefined, undefined])
    return strength / strength.mean(), np.quantile(drawn / means, limits, axis=0)


def _bootstrap(magnitude: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    images, _, pairs = magnitude.shape
    by_pair = magnitude.transpose(0, 2, 1)  # (T, P, M)
    means = []
    for _ in range(BOOTSTRAPS):
        image = rng.integers(images, size=(images, 1))
        means.append(by_pair[image, rng.integers(pairs, size=(images, pairs))].mean(axis=(0, 1)))
    return np.stack(means)


def _chance(delta: np.ndarray) -> np.ndarray:
    """Mean of |N(0, s)| is s √(2/π); s is the standard error of I, 0 for a single context."""
    count = (~np.isnan(delta)).sum(axis=-1)
    centred = delta - np.nanmean(delta, axis=-1, keepdims=True)
    variance = np.nansum(centred**2, axis=-1) / np.maximum(count - 1, 1) / count
    return np.sqrt(2 / np.pi) * np.sqrt(variance).mean(axis=(0, 2))


def estimate_rows(found: Estimate, orders: Sequence[int], players: int) -> list[dict]:
    """One table row per order; ``share`` is that of the n - 2 other players."""
    rows = []
    for index, order in enumerate(orders):
        row: dict = dict(order=order, share=order / (players - 2))
        for short, name in (('J', 'relative'), ('I', 'strength')):
            low, high = getattr(found, f'{name}_interval')[:, index]
            row |= {short: getattr(found, name)[index], f'{short}_low': low, f'{short}_high': high}
        rows.append({**row, 'I_chance': found.chance[index]})
    return rows


def draw_interactions(
    estimates: Mapping[str, Estimate], orders: Sequence[int], players: int
) -> Figure:
    """Draw J with its interval, one curve per network, by label; orders are of n ``players``."""
    figure = Figure(figsize=(6.4, 4.2), layout='constrained')
    axes = figure.add_subplot()
    rest = players - 2
    share = [order / rest for order in orders]
    for label, found in estimates.items():
        remark, style = _remark(found)
        (line,) = axes.plot(
            share, found.relative, style, marker='o', markersize=3, label=f'{label}{remark}'
        )
        low, high = found.relative_interval
        axes.fill_between(share, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(1, color='grey', linewidth=0.8, linestyle=':')
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f'order: share of the {rest} other patches in the context')
    axes.set_ylabel('relative interaction strength J')
    axes.legend(frameon=False)
    scales = (lambda x: np.asarray(x) * rest, lambda x: np.asarray(x) / rest)
    top = axes.secondary_xaxis('top', functions=scales)
    top.set_xlabel('patches')
    return figure


def _remark(found: Estimate) -> tuple[str, str]:
    """Suffix of the label in the legend, and line style."""
    if np.isnan(found.relative).any():
        return ' (no interactions)', '-'
    if np.isnan(found.relative_interval).any():
        return f' (no interval: {found.interacting} image(s) interact)', '--'
    return '', '-'
