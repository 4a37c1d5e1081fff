"""Figures of spectra: frequencies over depth, variance, scores under corruption, ratios."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from a2mim.analysis.spectra.corruption import Corruption
from a2mim.analysis.spectra.features import SMALLEST, FeatureSpectra
from a2mim.analysis.spectra.reconstructions import ReconstructionSpectra

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
