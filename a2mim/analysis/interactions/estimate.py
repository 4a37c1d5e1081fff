"""Strength of interactions by order, with confidence intervals.

Axes: T images, M orders, P pairs, C contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOOTSTRAPS = 1000
CONFIDENCE = 0.95
ROUNDING = 1e-5  # of |v|: what single precision leaves of an interaction that is none


@dataclass(frozen=True)
class Estimate:
    """Of one network, (M,) where no shape is said.

    Attributes:
        strength: Î, mean over images and pairs of |I|, in units of v.
        strength_interval: (2, M), low and high.
        relative: J, strength over its mean over orders, dimensionless; NaN if no pair
            interacts beyond rounding.
        relative_interval: (2, M), low and high; NaN also if so few pairs interact that a bootstrap
            draw may hold none.
        chance: The strength that the finite number of contexts would show if every I were 0.
        interacting: Images in which any pair interacts beyond rounding.
    """

    strength: np.ndarray
    strength_interval: np.ndarray
    relative: np.ndarray
    relative_interval: np.ndarray
    chance: np.ndarray
    interacting: int


def interactions(delta: np.ndarray) -> np.ndarray:
    """I: Δv (..., C) averaged over the contexts that were measured, (...)."""
    return np.nanmean(delta.astype(np.float64), axis=-1)


def estimate_strength(delta: np.ndarray, scale: float, seed: int = 0) -> Estimate:
    """Means and 95 % bootstrap intervals over images and pairs.

    An image is drawn with replacement, then pairs of it, the same for all orders. With 25 images
    such intervals held the truth in 92 % of 150 trials.

    Args:
        delta: Δv (T, M, P, C), NaN where not measured.
        scale: Largest |v|.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are fewer than two images.
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
    """J and its interval; NaN where no pair interacts, the interval also if none of a draw does."""
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
    """One row of a table for each order; ``share`` is of the n - 2 players beside the pair."""
    rows = []
    for index, order in enumerate(orders):
        row = dict(order=order, share=order / (players - 2))
        for short, name in (('J', 'relative'), ('I', 'strength')):
            low, high = getattr(found, f'{name}_interval')[:, index]
            row |= {short: getattr(found, name)[index], f'{short}_low': low, f'{short}_high': high}
        rows.append({**row, 'I_chance': found.chance[index]})
    return rows
