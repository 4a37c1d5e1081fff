"""Frequencies and variance of the features of networks, from the stem to the last block.

Axes: B batch, C channels, (H, W) positions, F frequencies, D depths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from a2mim.analysis.batches import measured_batches
from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.spectra.latents import normalised_depths, read_latents
from a2mim.analysis.spectra.log_amplitude import diagonal, diagonal_frequencies, log_amplitude_map
from a2mim.analysis.spectra.variance import spatial_variance
from a2mim.analysis.subject import Subject

SMALLEST = 3  # positions on a side: fewer have no frequency but zero on the diagonal


@dataclass(frozen=True)
class FeatureSpectra:
    """What was measured at each of D depths of one network.

    Attributes:
        names, kinds: Of each depth, see ``read_latents``.
        depths: (D,), from 0 to 1.
        sizes: (D, 2), H and W.
        curves: D relative log amplitudes (F,), each with its own F.
        variances: (D,), spatial variance.
    """

    names: list[str]
    kinds: list[str]
    depths: np.ndarray
    sizes: np.ndarray
    curves: list[np.ndarray]
    variances: np.ndarray

    def frequencies(self, depth: int) -> np.ndarray:
        """(F,) of the curve at a depth, in fractions of π."""
        return diagonal_frequencies(tuple(self.sizes[depth]))

    def high_frequencies(self) -> np.ndarray:
        """(D,) last entry of every curve; NaN where a grid has fewer than three positions."""
        large = self.sizes.min(axis=1) >= SMALLEST
        return np.array([c[-1] if ok else np.nan for c, ok in zip(self.curves, large, strict=True)])


def feature_spectra(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    *,
    folder: Path,
    batch_size: int = 64,
) -> dict[str, FeatureSpectra]:
    """Measure every network on the same images, each at its own size; by label.

    Args:
        subjects: Networks.
        images: What they are shown.
        folder: Where finished batches are kept, so that an interrupted measurement goes on.
        batch_size: Images in one pass.

    Raises:
        ValueError: If a network has no features of three positions on a side.
    """
    return {s.label: _measure(s, images, folder, batch_size) for s in subjects}


def _measure(
    subject: Subject, images: AnalysisImages, folder: Path, batch_size: int
) -> FeatureSpectra:
    sums: dict[str, np.ndarray] = {}
    options = dict(folder=folder, batch_size=batch_size)
    for which, part in measured_batches(subject, images, partial(_batch, subject), **options):
        share = len(which) / len(images)
        for key, array in part.items():
            if key in ('names', 'kinds', 'sizes'):
                sums[key] = array
            else:
                sums[key] = sums.get(key, 0) + share * array
    return _collect(subject.label, sums)


def _batch(subject: Subject, normalised: Tensor, _which: range) -> dict[str, np.ndarray]:
    def reduce(features: Tensor) -> tuple[tuple[int, int], np.ndarray, float]:
        features = features.double()
        curve = diagonal(log_amplitude_map(features)).cpu().numpy()
        size = features.shape[2], features.shape[3]
        # One position has no variance.
        spread = spatial_variance(features).item() if size != (1, 1) else np.nan
        return size, curve, spread

    found = read_latents(subject.model, normalised, reduce)
    latents = [latent for latent, _ in found]
    return dict(
        names=np.array([latent.name for latent in latents]),
        kinds=np.array([latent.kind for latent in latents]),
        sizes=np.array([size for _, (size, _, _) in found]),
        variances=np.array([spread for _, (_, _, spread) in found]),
        **{f'curve_{i}': curve for i, (_, (_, curve, _)) in enumerate(found)},
    )


def _collect(label: str, sums: Mapping[str, np.ndarray]) -> FeatureSpectra:
    number = len(sums['names'])
    if sums['sizes'].min(axis=1).max() < SMALLEST:
        raise ValueError(
            f'{label}: no features have {SMALLEST} positions on a side, and smaller grids carry no '
            'frequency but zero; take a network for larger images'
        )
    curves = [sums[f'curve_{index}'] for index in range(number)]
    return FeatureSpectra(
        names=sums['names'].tolist(),
        kinds=sums['kinds'].tolist(),
        depths=np.array(normalised_depths(number)),
        sizes=sums['sizes'],
        curves=[curve - curve[0] for curve in curves],
        variances=sums['variances'],
    )
