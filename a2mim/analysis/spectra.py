"""Frequencies and variance of feature maps over depth, and of reconstructions.

Log amplitudes are taken along the diagonal of a spectrum, or averaged over rings.

Axes: B batch, C channels, (H, W) positions or pixels, (h, w) mask blocks, F frequencies, D depths.
Frequencies are fractions of π per position, the highest that a grid can carry along an axis.

Reference:
    Park and Kim, How do vision transformers work?, ICLR 2022 (https://arxiv.org/abs/2202.06709).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.latents import normalized_depths, read_latents
from a2mim.analysis.networks import Network, measured_batches
from a2mim.masking import block_grid, random_patch_mask
from a2mim.weights.load_model import InputSpec

FLOOR = 1e-6  # added to amplitudes, so that the log of 0 is finite
SMALLEST = 3  # positions on a side: smaller grids have only frequency zero on the diagonal
SHADE = '0.93'  # grey


def log_amplitude_map(features: Tensor) -> Tensor:
    """``log(|FFT| + 1e-6)`` of (B, C, H, W), mean over B and C: (H, W), not shifted.

    The transform is not scaled, the log is natural, the precision at least single.
    """
    if not features.dtype.is_floating_point or features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return (torch.fft.fft2(features).abs() + FLOOR).log().mean(dim=(0, 1))


def diagonal_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) fractions of π of ``diagonal`` of a (H, W) map, F = ceil(min(H, W) / 2).

    An even side of n has no entry at π: its last one is 1 - 2 / n.
    """
    side = min(size)
    return 2 * np.arange((side + 1) // 2) / side


def diagonal(amplitudes: Tensor) -> Tensor:
    """Entries of a (H, W) map at equal vertical and horizontal frequency, from zero up: (F,).

    If H and W differ, the longer axis gives its nearest frequency.
    """
    height, width = amplitudes.shape
    fractions = torch.from_numpy(diagonal_frequencies((height, width)) / 2)
    rows, columns = ((fractions * side).round().long() for side in (height, width))
    return amplitudes[rows, columns]


def radial_frequency(size: tuple[int, int]) -> Tensor:
    """(H, W) distance of every entry of an FFT from zero frequency, 0 to √2 (times π)."""
    rows, columns = (2 * torch.fft.fftfreq(side, dtype=torch.float64) for side in size)
    return torch.hypot(rows[:, None], columns[None, :])


def ring_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) centres of the rings of ``ring_means``, fractions of π from 0 to at most 1."""
    side = min(size)
    return 2 * np.arange(side // 2 + 1) / side


def ring_means(amplitudes: Tensor) -> Tensor:
    """Mean of a (..., H, W) map, not shifted, over rings of equal frequency: (..., F).

    A ring is as wide as one frequency of the shorter side. The corners of the spectrum, beyond the
    last ring, are excluded.
    """
    height, width = amplitudes.shape[-2:]
    side = min(height, width)
    ring = (radial_frequency((height, width)) * side / 2).round().long().flatten()
    num_rings = side // 2 + 1
    inside = ring < num_rings
    member = torch.nn.functional.one_hot(ring[inside], num_rings).to(amplitudes)
    return amplitudes.flatten(-2)[..., inside.to(amplitudes.device)] @ (member / member.sum(dim=0))


def spatial_variance(features: Tensor) -> Tensor:
    """Unbiased variance over the positions of (B, C, H, W), mean over B and C (figure 9)."""
    return features.var(dim=(2, 3)).mean()


@dataclass(frozen=True)
class FeatureSpectra:
    """Measurements at D depths of one network.

    Attributes:
        names, kinds: Of each depth, see ``latents.Latent``.
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
        height, width = self.sizes[depth]
        return diagonal_frequencies((height, width))

    def high_frequencies(self) -> np.ndarray:
        """(D,) last entry of every curve; NaN for grids of fewer than three positions."""
        large = self.sizes.min(axis=1) >= SMALLEST
        return np.array([c[-1] if ok else np.nan for c, ok in zip(self.curves, large, strict=True)])


def feature_spectra(
    networks: Sequence[Network], images: AnalysisImages, *, folder: Path, batch_size: int = 64
) -> dict[str, FeatureSpectra]:
    """Measure every network, by label.

    Raises:
        ValueError: If a network has no features of three positions on a side.
    """
    return {s.label: _measure_features(s, images, folder, batch_size) for s in networks}


def _measure_features(
    network: Network, images: AnalysisImages, folder: Path, batch_size: int
) -> FeatureSpectra:
    sums: dict[str, np.ndarray] = {}
    measure = partial(_feature_batch, network)
    for which, part in measured_batches(
        network, images, measure, folder=folder, batch_size=batch_size
    ):
        share = len(which) / len(images)
        for key, array in part.items():
            if key in ('names', 'kinds', 'sizes'):
                sums[key] = array
            else:
                sums[key] = sums.get(key, 0) + share * array
    return _collect(network.label, sums)


def feature_rows(found: Mapping[str, FeatureSpectra]) -> list[dict[str, object]]:
    """A table row for each network and depth; frequencies in fractions of π."""
    return [
        dict(
            network=label,
            latent=name,
            kind=one.kinds[index],
            depth=one.depths[index],
            height=one.sizes[index][0],
            frequency=one.frequencies(index)[-1],
            high_frequency=high,
            variance=one.variances[index],
        )
        for label, one in found.items()
        for index, (name, high) in enumerate(zip(one.names, one.high_frequencies(), strict=True))
    ]


def _feature_batch(network: Network, batch: Tensor, _which: range) -> dict[str, np.ndarray]:
    def reduce(features: Tensor) -> tuple[tuple[int, int], np.ndarray, float]:
        features = features.double()
        curve = diagonal(log_amplitude_map(features)).cpu().numpy()
        size = features.shape[2], features.shape[3]
        # One position has no variance.
        spread = spatial_variance(features).item() if size != (1, 1) else np.nan
        return size, curve, spread

    found = read_latents(network.model, batch, reduce)
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
            f'{label}: no features have {SMALLEST} positions on a side, and smaller grids only '
            'have frequency zero; take a network for larger images'
        )
    curves = [sums[f'curve_{index}'] for index in range(number)]
    return FeatureSpectra(
        names=sums['names'].tolist(),
        kinds=sums['kinds'].tolist(),
        depths=np.array(normalized_depths(number)),
        sizes=sums['sizes'],
        curves=[curve - curve[0] for curve in curves],
        variances=sums['variances'],
    )


@dataclass(frozen=True)
class ReconstructionSpectra:
    """Log amplitudes in masked blocks, mean over channels, blocks and images.

    Attributes:
        frequencies: (F,), fractions of π.
        target, reconstruction: (F,), natural logs; their difference is the log of ``ratio``.
    """

    frequencies: np.ndarray
    target: np.ndarray
    reconstruction: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """(F,) amplitude of the reconstruction relative to the target."""
        return np.exp(self.reconstruction - self.target)


def reconstruction_spectra(
    networks: Sequence[Network],
    images: AnalysisImages,
    *,
    folder: Path,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, ReconstructionSpectra]:
    """Mask blocks as in pre-training and compare their reconstruction with the image; by label.

    Every masked block is transformed separately: visible blocks carry no loss, so that their
    reconstruction is arbitrary. An image has the same mask for all networks of one grid.

    Raises:
        TypeError: If a network has no decoder.
        ValueError: If its blocks are smaller than 4×4 pixels.
    """
    for network in networks:
        spec = network.pretraining.input_spec
        if min(_block(spec)) < 4:
            raise ValueError(
                f'{network.label} has mask blocks of {spec.block_size} pixels; a spectrum needs at '
                'least 4×4'
            )
    return {
        s.label: _measure_reconstructions(s, images, folder, seed, batch_size) for s in networks
    }


def ratio_rows(found: Mapping[str, ReconstructionSpectra]) -> list[dict[str, object]]:
    """A table row for each network and frequency, in fractions of π."""
    names = ('frequency', 'target', 'reconstruction', 'ratio')
    return [
        dict(network=label, **dict(zip(names, row, strict=True)))
        for label, one in found.items()
        for row in zip(one.frequencies, one.target, one.reconstruction, one.ratio, strict=True)
    ]


def image_masks(spec: InputSpec, seed: int, indices: range) -> Tensor:
    """(B, h, w) masks of images number ``indices``, as in pre-training."""
    grid = block_grid(spec.image_size, spec.block_size)
    generators = (np.random.default_rng((seed, index)) for index in indices)
    masks = [random_patch_mask(grid, spec.ratio, generator) for generator in generators]
    return torch.from_numpy(np.stack(masks)).float()


def _block(spec: InputSpec) -> tuple[int, int]:
    rows, columns = block_grid(spec.image_size, spec.block_size)
    return spec.image_size[0] // rows, spec.image_size[1] // columns


def _measure_reconstructions(
    network: Network, images: AnalysisImages, folder: Path, seed: int, batch_size: int
) -> ReconstructionSpectra:
    frequencies = ring_frequencies(_block(network.pretraining.input_spec))
    total = dict(target=np.zeros_like(frequencies), reconstruction=np.zeros_like(frequencies))
    measure = partial(_reconstruction_batch, network, seed)
    for which, part in measured_batches(
        network, images, measure, folder=folder, batch_size=batch_size, seed=seed
    ):
        for name in total:
            total[name] = total[name] + len(which) / len(images) * part[name]
    return ReconstructionSpectra(frequencies, **total)


@torch.no_grad()
def _reconstruction_batch(
    network: Network, seed: int, batch: Tensor, which: range
) -> dict[str, np.ndarray]:
    mask = image_masks(network.pretraining.input_spec, seed, which).to(network.device)
    outputs = network.pretraining.predict(batch, mask)
    return dict(
        target=block_spectrum(outputs['image'], mask).cpu().numpy(),
        reconstruction=block_spectrum(outputs['reconstruction'], mask).cpu().numpy(),
    )


def block_spectrum(images: Tensor, mask: Tensor) -> Tensor:
    """Radially averaged log amplitude of the masked blocks of (B, C, H, W): (F,).

    ``mask`` is (B, h, w), 1 where masked, with at least one masked block.
    """
    h, w = mask.shape[1:]
    blocks = images.unflatten(3, (w, -1)).unflatten(2, (h, -1))  # (B, C, h, rows, w, columns)
    blocks = blocks.permute(0, 2, 4, 1, 3, 5)[mask.bool()]  # (masked, C, rows, columns)
    return ring_means(log_amplitude_map(blocks.double()))


def draw_depth_curves(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Draw relative log amplitudes by frequency: one panel a network, one curve a depth."""
    figure = Figure(figsize=(3.6 * len(spectra) + 0.8, 3.6), layout='constrained')
    panels = figure.subplots(1, len(spectra), sharey=True, squeeze=False)[0]
    colors = colormaps['plasma_r']
    for axes, (label, found) in zip(panels, spectra.items(), strict=True):
        for index, curve in enumerate(found.curves):
            if found.sizes[index].min() >= SMALLEST:
                color = colors(0.1 + 0.9 * found.depths[index])
                marker = dict(marker='.', markersize=4, linewidth=1.2, color=color)
                axes.plot(found.frequencies(index), curve, **marker)
        axes.set(title=label, xlabel='frequency (π per position)', xlim=(0, 1))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8])  # 1.0 would touch the 0 of the next panel
    panels[0].set_ylabel('Δ log amplitude')
    scale = ScalarMappable(cmap=colors)
    figure.colorbar(scale, ax=panels.tolist(), label='depth (0 stem, 1 last block)')
    return figure


def draw_high_frequencies(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Draw the relative log amplitude at the highest frequency by normalised depth."""
    values = {label: found.high_frequencies() for label, found in spectra.items()}
    return _by_depth(spectra, values, 'Δ log amplitude, highest frequency')


def draw_variance(spectra: Mapping[str, FeatureSpectra]) -> Figure:
    """Draw the spatial variance by normalised depth, on a log axis."""
    values = {label: found.variances for label, found in spectra.items()}
    figure = _by_depth(spectra, values, 'spatial variance of features')
    figure.axes[0].set_yscale('log')
    return figure


def draw_reconstructions(spectra: Mapping[str, ReconstructionSpectra]) -> Figure:
    """Draw log amplitudes of targets and reconstructions (left), and their ratio (right)."""
    figure = Figure(figsize=(8.4, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    first = next(iter(spectra.values()))
    one_target = all(np.array_equal(found.target, first.target) for found in spectra.values())
    if one_target:  # the same size and blocks
        left.plot(first.frequencies, first.target, ':', color='black', label='image')
    for number, (label, found) in enumerate(spectra.items()):
        color = f'C{number}'
        left.plot(found.frequencies, found.reconstruction, '.-', color=color, label=label)
        if not one_target:
            left.plot(found.frequencies, found.target, ':', color=color, label=f'{label}, image')
        right.plot(found.frequencies, found.ratio, '.-', color=color, label=label)
    right.axhline(1, color='0.5', linestyle=':')
    left.set(xlabel='frequency (π per pixel)', ylabel='log amplitude in masked blocks')
    right.set(xlabel='frequency (π per pixel)', ylabel='amplitude, reconstruction / target')
    right.set_yscale('log')
    figure.legend(*left.get_legend_handles_labels(), loc='outside lower center', ncols=2)
    return figure


def _by_depth(
    spectra: Mapping[str, FeatureSpectra], values: Mapping[str, np.ndarray], ylabel: str
) -> Figure:
    figure, axes = single_panel()
    for label, found in spectra.items():
        axes.plot(found.depths, values[label], '.-', label=label)
    axes.set(xlabel='normalised depth (0 stem, 1 last block)', ylabel=ylabel)
    _shade(axes, next(iter(spectra.values())))
    add_legend(figure, axes)
    return figure


def _shade(axes: Axes, found: FeatureSpectra) -> None:
    """Shade where the grid of the first network shrinks, and the attention of a ViT."""
    for index in range(1, len(found.depths)):
        shrinks = (found.sizes[index] != found.sizes[index - 1]).any()
        if shrinks or found.kinds[index] == 'attention':
            axes.axvspan(found.depths[index - 1], found.depths[index], color=SHADE, zorder=0)


def single_panel() -> tuple[Figure, Axes]:
    """A figure of one panel with room for a legend below."""
    figure = Figure(figsize=(5.4, 4), layout='constrained')
    return figure, figure.subplots()


def add_legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the panel."""
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=2)
