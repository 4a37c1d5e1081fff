"""What a network still gets right when some frequencies of its input are gone, or noisy.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.latents import (
    diagonal,
    diagonal_frequencies,
    log_amplitude_map,
    normalised_depths,
    radial_frequency,
    read_latents,
    ring_frequencies,
    ring_means,
    spatial_variance,
)
from a2mim.analysis.networks import Subject, check_labels, measured_batches, open_store
from a2mim.analysis.results import progress
from a2mim.masking import block_grid, random_block_mask, upsample_mask

# [filters]
# Images without some of their frequencies, and noise that has only some.
#
# Axes: B batch, C channels, (H, W) pixels. Frequencies are distances from zero in fractions of π
# per pixel: 1 is the highest along an axis, √2 the highest of all, in the corners of the spectrum.


HIGHEST = math.sqrt(2)


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """What (B, C, H, W) has at frequencies up to ``cutoff``, which is in [0, √2].

    Raises:
        ValueError: If ``cutoff`` is out of range.
    """
    check_cutoff(cutoff)
    return _keep(images, radial_frequency(_size(images)) <= cutoff)


def high_pass(images: Tensor, cutoff: float) -> Tensor:
    """What ``low_pass`` removes: frequencies above ``cutoff``."""
    check_cutoff(cutoff)
    return _keep(images, radial_frequency(_size(images)) > cutoff)


def band_noise(
    shape: tuple[int, ...], band: tuple[float, float], *, rms: float, generator: torch.Generator
) -> Tensor:
    """Gaussian noise with frequencies in [low, high) alone.

    Args:
        shape: (B, C, H, W).
        band: (low, high), in fractions of π.
        rms: Root of the mean square of every image, over channels and pixels.
        generator: Source of randomness, on the CPU.

    Raises:
        ValueError: If the band is empty or out of range, or ``rms`` is negative.
    """
    low, high = band
    check_cutoff(low)
    if not (math.isfinite(rms) and rms >= 0):
        raise ValueError(f'rms={rms} of the noise must be 0 or more')
    radius = radial_frequency((shape[-2], shape[-1]))
    kept = (radius >= low) & (radius < high)
    if not kept.any():
        raise ValueError(
            f'no frequency of {shape[-2]}×{shape[-1]} pixels lies in the band {low:.3f} to '
            f'{high:.3f} π; make bands wider'
        )
    noise = _keep(torch.randn(shape, generator=generator), kept)
    scale = noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return noise * (rms / scale)


def check_cutoff(cutoff: float) -> None:
    """Refuse a frequency that no image has.

    Raises:
        ValueError: If ``cutoff`` is not in [0, √2].
    """
    if not 0 <= cutoff <= HIGHEST:
        raise ValueError(f'a frequency of {cutoff} π is out of range; give 0 to {HIGHEST:.3f}')


def _keep(images: Tensor, kept: Tensor) -> Tensor:
    # Kept sets are the same at k and -k, so that the inverse transform is real.
    return torch.fft.ifft2(torch.fft.fft2(images) * kept.to(images.device)).real


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


# [reconstructions]
# Which frequencies a network draws behind the mask, against those of the image.
#
# Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks, F rings of frequency.


@dataclass(frozen=True)
class ReconstructionSpectra:
    """Log amplitudes in hidden blocks, mean over channels, blocks and images.

    Attributes:
        frequencies: (F,), fractions of π.
        target, reconstruction: (F,), natural logs; their difference is the log of the ratio.
    """

    frequencies: np.ndarray
    target: np.ndarray
    reconstruction: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """(F,), 1 where the network draws a frequency as strongly as it is in the image."""
        return np.exp(self.reconstruction - self.target)


def reconstruction_spectra(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    *,
    folder: Path,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, ReconstructionSpectra]:
    """Hide blocks as in pre-training and compare what is drawn there with the image; by label.

    Every hidden block is transformed by itself: visible blocks carry no loss, and what a network
    draws there means nothing.

    Args:
        subjects: Networks with a decoder.
        images: What they are shown.
        folder: Where finished batches are kept.
        seed: Of the masks; image number i has the same mask for all networks of one grid.
        batch_size: Images in one pass.

    Raises:
        ValueError: If a network has no decoder, or its blocks are smaller than 4×4 pixels.
    """
    for subject in subjects:
        _check(subject)
    return {
        s.label: _measure_reconstructions(s, images, folder, seed, batch_size) for s in subjects
    }


def image_masks(whole: nn.Module, seed: int, indices: range) -> Tensor:
    """(B, h, w) masks of images number ``indices`` as in the pre-training of ``whole``."""
    spec = whole.input_spec
    grid = block_grid(spec.image_size, spec.block_size)
    generators = (np.random.default_rng((seed, index)) for index in indices)
    masks = [random_block_mask(grid, spec.ratio, generator) for generator in generators]
    return torch.from_numpy(np.stack(masks)).float()


def _check(subject: Subject) -> None:
    if not subject.has_decoder:
        raise ValueError(
            f'{subject.label} has no decoder and reconstructs nothing; give a checkpoint of '
            'pre-training'
        )
    if min(_block(subject.whole)) < 4:
        raise ValueError(
            f'{subject.label} hides blocks of {subject.whole.input_spec.block_size} pixels; a '
            'spectrum needs at least 4×4'
        )


def _block(whole: nn.Module) -> tuple[int, int]:
    spec = whole.input_spec
    rows, columns = block_grid(spec.image_size, spec.block_size)
    return spec.image_size[0] // rows, spec.image_size[1] // columns


def _measure_reconstructions(
    subject: Subject, images: AnalysisImages, folder: Path, seed: int, batch_size: int
) -> ReconstructionSpectra:
    total = dict(target=0.0, reconstruction=0.0)
    measure = partial(_reconstruction_batch, subject, seed)
    options = dict(folder=folder, batch_size=batch_size, seed=seed)
    for which, part in measured_batches(subject, images, measure, **options):
        for name in total:
            total[name] = total[name] + len(which) / len(images) * part[name]
    return ReconstructionSpectra(ring_frequencies(_block(subject.whole)), **total)


def _reconstruction_batch(
    subject: Subject, seed: int, normalised: Tensor, which: range
) -> dict[str, np.ndarray]:
    mask = image_masks(subject.whole, seed, which).to(subject.device)
    with torch.no_grad():
        outputs = subject.whole.predict(normalised, mask)
        return dict(
            target=block_spectrum(outputs['image'], mask).cpu().numpy(),
            reconstruction=block_spectrum(outputs['reconstruction'], mask).cpu().numpy(),
        )


def block_spectrum(images: Tensor, mask: Tensor) -> Tensor:
    """Radially averaged log amplitude of the hidden blocks of (B, C, H, W): (F,).

    ``mask`` is (B, h, w), 1 where hidden; at least one block must be.
    """
    h, w = mask.shape[1:]
    blocks = images.unflatten(3, (w, -1)).unflatten(2, (h, -1))  # (B, C, h, rows, w, columns)
    blocks = blocks.permute(0, 2, 4, 1, 3, 5)[mask.bool()]  # (hidden, C, rows, columns)
    return ring_means(log_amplitude_map(blocks.double()))


ACCURACY, ERROR = 'top-1 accuracy in %', 'mean absolute error in hidden blocks'


@dataclass(frozen=True)
class Corruption:
    """One change of the input.

    Attributes:
        curve: Of which line in a figure it is a point.
        frequency: Where on that line, in fractions of π.
        apply: Gets normalised images (B, C, H, W) and the number of the first; returns others.
    """

    curve: str
    frequency: float
    apply: Callable[[Tensor, int], Tensor]


def filters(cutoffs: Sequence[float]) -> list[Corruption]:
    """Ideal low-pass and high-pass filters at each of ``cutoffs``.

    Raises:
        ValueError: If there is none, or one is not in [0, √2].
    """
    if not cutoffs:
        raise ValueError('give at least one cut-off frequency')
    for cutoff in cutoffs:
        check_cutoff(cutoff)
    return [
        Corruption(curve, cutoff, partial(_filtered, kind, cutoff))
        for curve, kind in (('low-pass', low_pass), ('high-pass', high_pass))
        for cutoff in sorted(cutoffs)
    ]


def noises(bands: int, rms: float, seed: int = 0) -> list[Corruption]:
    """Noise in each of ``bands`` bands of equal width between 0 and √2.

    Raises:
        ValueError: If there is no band, or ``rms``, in units of normalised pixels, is negative.
    """
    if bands < 1:
        raise ValueError(f'{bands} bands of noise were asked for; give 1 or more')
    if not 0 <= rms < float('inf'):
        raise ValueError(f'rms={rms} of the noise must be 0 or more')
    # The last band is closed: it holds the corner of the spectrum.
    edges = [*(HIGHEST * index / bands for index in range(bands)), HIGHEST + 1e-6]
    return [
        Corruption('noise', (low + high) / 2, partial(_noisy, (low, high), rms, seed))
        for low, high in pairwise(edges)
    ]


def metric_of(subjects: Sequence[Subject], images: AnalysisImages) -> str:
    """What all ``subjects`` can be scored by on ``images``: accuracy, or error.

    Raises:
        ValueError: If one can neither classify nor reconstruct, if they differ, or if the images
            have no labels of its classes.
    """
    metrics = {subject.label: _metric(subject) for subject in subjects}
    if len(set(metrics.values())) > 1:
        raise ValueError(
            'classifiers and networks that reconstruct have no score in common '
            f'({", ".join(f"{label}: {metric}" for label, metric in metrics.items())}); run the '
            'tool once for each kind'
        )
    metric = next(iter(metrics.values()))
    if metric == ACCURACY:
        for subject in subjects:
            check_labels(subject, images)
    return metric


def corruption_scores(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    corruptions: Sequence[Corruption],
    *,
    folder: Path,
    seed: int = 0,
    batch_size: int = 64,
    **settings: object,
) -> dict[str, np.ndarray]:
    """Score of every network without corruption and under each one, (1 + corruptions,), by label.

    Args:
        subjects: Classifiers, or networks with a decoder.
        images: What they are shown.
        corruptions: Of the input; the target of a reconstruction stays clean.
        folder: Where scores are kept, so that an interrupted measurement goes on.
        seed: Of the masks.
        batch_size: Images in one pass.
        settings: What else the corruptions depend on.

    Raises:
        ValueError: See ``metric_of``.
    """
    metric = metric_of(subjects, images)
    measure = _accuracy if metric == ACCURACY else _error
    clean = Corruption('clean', 0.0, lambda batch, _start: batch)
    scores = {}
    for subject in subjects:
        store = open_store(folder, subject, images, seed=seed, **settings)
        found = []
        for one in progress([clean, *corruptions], subject.label):
            name = f'{one.curve}_{one.frequency:.6f}'
            score = partial(_score, subject, images, one, measure, seed, batch_size)
            found.append(store.compute(name, score)['score'].item())
        scores[subject.label] = np.array(found)
    return scores


def _score(
    subject: Subject,
    images: AnalysisImages,
    corruption: Corruption,
    measure: Callable,
    seed: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    total = 0.0
    for start, stop in images.spans(batch_size):
        clean = subject.normalise(images.pixels(subject.image_size, start, stop))
        changed = corruption.apply(clean, start)
        with torch.no_grad():
            total += measure(subject, images, changed, clean, range(start, stop), seed).sum().item()
    return dict(score=np.array(total / len(images)))


def _accuracy(
    subject: Subject, images: AnalysisImages, changed: Tensor, _clean: Tensor, which: range, _seed
) -> Tensor:
    labels = images.labels[which.start : which.stop].to(subject.device)
    return 100.0 * (subject.model(changed).argmax(dim=1) == labels).double()


def _error(
    subject: Subject, _images: AnalysisImages, changed: Tensor, clean: Tensor, which: range, seed
) -> Tensor:
    mask = image_masks(subject.whole, seed, which).to(subject.device)
    drawn = subject.whole.predict(changed, mask)['reconstruction']
    hidden = upsample_mask(mask, tuple(clean.shape[-2:])).unsqueeze(1)
    error = (hidden * (drawn - clean).abs()).double().sum(dim=(1, 2, 3))
    return error / (clean.shape[1] * hidden.sum(dim=(1, 2, 3))).clamp(min=1)


def _metric(subject: Subject) -> str:
    if subject.has_decoder:
        return ERROR
    if subject.num_classes:
        return ACCURACY
    raise ValueError(
        f'{subject.label} is a trunk: it neither classifies nor reconstructs; give a fine-tuned '
        'checkpoint, or one of pre-training with its decoder'
    )


def _filtered(kind: Callable, cutoff: float, batch: Tensor, _start: int) -> Tensor:
    return kind(batch, cutoff)


def _noisy(band: tuple[float, float], rms: float, seed: int, batch: Tensor, start: int) -> Tensor:
    shape = (1, *batch.shape[1:])
    # Each image has a seed of its own, so that its noise is the same in any batch.
    noise = [
        band_noise(
            shape, band, rms=rms, generator=torch.Generator().manual_seed(seed * 2**32 + index)
        )
        for index in range(start, start + len(batch))
    ]
    return batch + torch.cat(noise).to(batch)


# [features]
# Frequencies and variance of the features of networks, from the stem to the last block.
#
# Axes: B batch, C channels, (H, W) positions, F frequencies, D depths.


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
    return {s.label: _measure_features(s, images, folder, batch_size) for s in subjects}


def _measure_features(
    subject: Subject, images: AnalysisImages, folder: Path, batch_size: int
) -> FeatureSpectra:
    sums: dict[str, np.ndarray] = {}
    options = dict(folder=folder, batch_size=batch_size)
    for which, part in measured_batches(
        subject, images, partial(_feature_batch, subject), **options
    ):
        share = len(which) / len(images)
        for key, array in part.items():
            if key in ('names', 'kinds', 'sizes'):
                sums[key] = array
            else:
                sums[key] = sums.get(key, 0) + share * array
    return _collect(subject.label, sums)


def _feature_batch(subject: Subject, normalised: Tensor, _which: range) -> dict[str, np.ndarray]:
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


# [draw]
# Figures of spectra: frequencies over depth, variance, scores under corruption, ratios.


LINES = ('-', '--')
SHADE = dict(color='0.93', zorder=0)


def draw_depth_curves(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Figure A: one panel a network, one curve a depth, relative log amplitude by frequency."""
    figure = Figure(figsize=(3.6 * len(spectra) + 0.8, 3.6), layout='constrained')
    panels = figure.subplots(1, len(spectra), sharey=True, squeeze=False)[0]
    colours = colormaps['plasma_r']
    for axes, (label, found) in zip(panels, spectra.items(), strict=True):
        for index, curve in enumerate(found.curves):
            if found.sizes[index].min() >= SMALLEST:
                colour = colours(0.1 + 0.9 * found.depths[index])
                marker = dict(marker='.', markersize=4, linewidth=1.2, color=colour)
                axes.plot(found.frequencies(index), curve, **marker)
        axes.set(title=label, xlabel='frequency (π per position)', xlim=(0, 1))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8])  # 1.0 would touch the 0 of the next panel
    panels[0].set_ylabel('Δ log amplitude')
    scale = ScalarMappable(cmap=colours)
    figure.colorbar(scale, ax=panels.tolist(), label='depth (0 stem, 1 last block)')
    return figure


def draw_high_frequencies(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Figure B: the last entry of each curve by normalised depth."""
    values = {label: found.high_frequencies() for label, found in spectra.items()}
    return _by_depth(spectra, values, 'Δ log amplitude, highest frequency')


def draw_variance(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Spatial variance by normalised depth, on a log axis."""
    values = {label: found.variances for label, found in spectra.items()}
    figure = _by_depth(spectra, values, 'spatial variance of features')
    figure.axes[0].set_yscale('log')
    return figure


def draw_scores(
    scores: Mapping[str, np.ndarray], corruptions: Sequence[Corruption], metric: str, xlabel: str
) -> Figure:
    """Score of each network by frequency; a dotted line is the score of the clean images."""
    figure, axes = _single()
    curves = list(dict.fromkeys(one.curve for one in corruptions))
    for number, (label, values) in enumerate(scores.items()):
        for line, curve in zip(LINES, curves, strict=False):
            chosen = [index for index, one in enumerate(corruptions) if one.curve == curve]
            name = label if len(curves) == 1 else f'{label}, {curve}'
            axes.plot(
                [corruptions[index].frequency for index in chosen],
                [values[1 + index] for index in chosen],
                line,
                marker='.',
                color=f'C{number}',
                label=name,
            )
        axes.axhline(values[0], color=f'C{number}', linestyle=':', linewidth=1)
    axes.set(xlabel=xlabel, ylabel=metric, ylim=(0, None))
    _legend(figure, axes)
    return figure


def draw_reconstructions(spectra: Mapping[str, ReconstructionSpectra]) -> Figure:
    """Left, log amplitudes of targets and reconstructions; right, the ratio of amplitudes."""
    figure = Figure(figsize=(8.4, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    first = next(iter(spectra.values()))
    one_target = all(np.array_equal(found.target, first.target) for found in spectra.values())
    if one_target:  # the same size and blocks
        left.plot(first.frequencies, first.target, ':', color='black', label='image')
    for number, (label, found) in enumerate(spectra.items()):
        colour = f'C{number}'
        left.plot(found.frequencies, found.reconstruction, '.-', color=colour, label=label)
        if not one_target:
            left.plot(found.frequencies, found.target, ':', color=colour, label=f'{label}, image')
        right.plot(found.frequencies, found.ratio, '.-', color=colour, label=label)
    right.axhline(1, color='0.5', linestyle=':')
    left.set(xlabel='frequency (π per pixel)', ylabel='log amplitude in hidden blocks')
    right.set(xlabel='frequency (π per pixel)', ylabel='amplitude, reconstruction / target')
    right.set_yscale('log')
    figure.legend(*left.get_legend_handles_labels(), loc='outside lower center', ncols=2)
    return figure


def _by_depth(
    spectra: Mapping[str, FeatureSpectra], values: Mapping[str, np.ndarray], ylabel: str
) -> Figure:
    figure, axes = _single()
    for label, found in spectra.items():
        axes.plot(found.depths, values[label], '.-', label=label)
    axes.set(xlabel='normalised depth (0 stem, 1 last block)', ylabel=ylabel)
    _shade(axes, next(iter(spectra.values())))
    _legend(figure, axes)
    return figure


def _shade(axes: Axes, found: FeatureSpectra) -> None:
    """Grey where the first network changes its grid, or in a ViT where attention works."""
    for index in range(1, len(found.depths)):
        shrinks = (found.sizes[index] != found.sizes[index - 1]).any()
        if shrinks or found.kinds[index] == 'attention':
            axes.axvspan(found.depths[index - 1], found.depths[index], **SHADE)


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 4), layout='constrained')
    return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=2)
