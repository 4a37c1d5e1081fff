"""The sections of a report: networks, images and effort, and the measurement of each section.

Axes: B batch, N images, D features, (H, W) pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.images import PHOTOS, AnalysisImages, LabelledImages
from a2mim.analysis.interaction_strength import draw_interactions
from a2mim.analysis.interactions import InteractionSettings, interaction_rows, measure_interactions
from a2mim.analysis.networks import RANDOM, Network, pooled_features, read_network
from a2mim.analysis.reconstructions import MaskSetting, reconstruction_grid
from a2mim.analysis.results import Results
from a2mim.analysis.robustness import (
    check_measure,
    choose_measure,
    draw_robustness,
    occlusion_levels,
    robustness_curves,
    robustness_rows,
    shuffle_levels,
)
from a2mim.analysis.runs import LONG, RunLog
from a2mim.analysis.spectra import (
    draw_depth_curves,
    draw_high_frequencies,
    draw_reconstructions,
    draw_variance,
    feature_rows,
    feature_spectra,
    reconstruction_spectra,
)
from a2mim.evaluation.feature_probe import extract_features, knn_accuracy, linear_probe_accuracy

TIMES = ('time', 'data_time', 'data_wait', 'images_per_s', 'memory', 'grad_norm')
PANELS_PER_ROW = 3
FIGURES = (
    ('losses', 'Training losses by iteration; each value is the mean since the one before.'),
    ('learning_rate', 'Learning rate by iteration.'),
    ('metrics', 'Validation metrics by epoch (by iteration of a run without epochs).'),
)
RATIOS = (0.05, 0.3, 0.5, 0.7, 0.95)  # orders of interactions
FINEST = 8  # cells along a side, at most
OCCLUDED = (0.0, 0.25, 0.5, 0.75, 0.9)
SPLITS = ('train', 'val')
NEIGHBOURS = 20
KNN, LINEAR = 'nearest neighbours (%)', 'linear probe (%)'


@dataclass(frozen=True)
class Effort:
    """Numbers of images and of random draws.

    Attributes:
        images: For spectra and robustness.
        pictures: Images with reconstructions.
        interaction_images, pairs, contexts: Of interactions.
        labels_per_class: Training photographs of the probes.
    """

    images: int = 56
    pictures: int = 6
    interaction_images: int = 8
    pairs: int = 10
    contexts: int = 20
    labels_per_class: int = 48


THOROUGH = Effort()
QUICK = Effort(16, 4, 4, 5, 5, 12)


@dataclass(frozen=True)
class Comparison:
    """What a report compares.

    Attributes:
        networks: Networks, with different labels.
        logs: Training logs, with the labels of their networks.
        images: ``'photos'`` or a folder.
        labelled: The folders in ``images`` are classes.
        probe_images: ``'photos'``, or a folder with class folders in ``train`` and ``val``.
        effort: Numbers of images and draws.
        num_images: Replaces the numbers of images in ``effort``.
        seed: Of every random choice.
        batch_size: Images in a forward pass.
    """

    networks: Sequence[Network]
    logs: Sequence[RunLog] = ()
    images: str = PHOTOS
    labelled: bool = False
    probe_images: str = PHOTOS
    effort: Effort = THOROUGH
    num_images: int | None = None
    seed: int = 0
    batch_size: int = 64

    def open_images(self, number: int) -> AnalysisImages:
        """``number`` images, the same for every network."""
        return AnalysisImages(self.images, number, self.seed, labelled=self.labelled)

    def number(self, wanted: int) -> int:
        """``wanted``, at most ``num_images``."""
        return wanted if self.num_images is None else min(wanted, self.num_images)

    @property
    def spectrum_images(self) -> AnalysisImages:
        """For spectra and robustness."""
        return self.open_images(self.num_images or self.effort.images)

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Source and fingerprint of the weights, by label."""
        return {
            network.label: f'{network.source}, weights {network.fingerprint()}'
            for network in self.networks
        }

    @property
    def image_settings(self) -> Mapping[str, object]:
        """Settings of every measurement on images."""
        return dict(
            networks=dict(self.fingerprints),
            images=self.images,
            labelled=self.labelled,
            seed=self.seed,
            batch_size=self.batch_size,
        )


def add_curves(compared: Comparison, results: Results) -> None:
    """Losses, learning rate and metrics as figures, their last values as a table."""
    if not compared.logs:
        raise ValueError(
            'no network is given as a work dir with logs; give the folder of a training, not its '
            'checkpoint'
        )
    for name, caption in FIGURES:
        keys = [key for key in all_keys(compared.logs) if kind_of(key) == name]
        if keys:
            results.add_figure(draw_panels(compared.logs, keys), name, caption)
    results.add_table(
        last_values(compared.logs), 'last_values', 'Last logged value, and the best metric.'
    )


def all_keys(logs: Sequence[RunLog]) -> list[str]:
    """Keys that any run logged, without times."""
    return sorted({key for log in logs for key in log.keys} - set(TIMES))


def kind_of(key: str) -> str:
    """Name of the figure for ``key``."""
    if key.endswith('lr'):
        return 'learning_rate'
    return 'losses' if 'loss' in key else 'metrics'


def draw_panels(logs: Sequence[RunLog], keys: Sequence[str]) -> Figure:
    """Draw one panel for each key, one line for each run that has it, in the run's colour."""
    columns = min(PANELS_PER_ROW, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(max(5.2, 3.8 * columns), 2.9 * rows + 0.4), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, key in zip(panels, keys, strict=False):
        units = set()
        for number, log in enumerate(logs):
            if key in log.keys:
                steps, values, epochs = log.curve(key)
                marker = '.' if len(steps) < LONG else None
                panel.plot(steps, values, color=f'C{number}', marker=marker, label=log.label)
                units.add('epoch' if epochs else 'iteration')
        panel.set(xlabel=' or '.join(sorted(units)), ylabel=_with_unit(key))
        panel.grid(alpha=0.3)
    for panel in panels[len(keys) :]:
        panel.set_visible(False)
    found = {str(line.get_label()): line for panel in figure.axes for line in panel.get_lines()}
    figure.legend(list(found.values()), list(found), loc='outside upper center', ncols=3)
    return figure


def last_values(logs: Sequence[RunLog]) -> list[dict[str, object]]:
    """A row for each run and key: last step, last value, and highest value of a metric."""
    rows: list[dict[str, object]] = []
    for log in logs:
        for key in (key for key in all_keys([log]) if kind_of(key) != 'learning_rate'):
            steps, values, epochs = log.curve(key)
            unit = 'epoch' if epochs else 'iteration'
            best = max(values) if kind_of(key) == 'metrics' else ''
            step = f'{unit} {steps[-1]}'
            rows.append(dict(network=log.label, key=key, step=step, last=values[-1], highest=best))
    return rows


def _with_unit(key: str) -> str:
    if key == 'lr':
        return 'learning rate'
    return f'{key} (%)' if kind_of(key) == 'metrics' and 'top' in key else key


def add_reconstructions(compared: Comparison, results: Results) -> None:
    """Reconstructions by all networks with a decoder and the image size of the first of them."""
    networks = _with_decoder(compared)
    spec = networks[0].pretraining.input_spec
    block = spec.block_size if isinstance(spec.block_size, int) else spec.block_size[0]
    setting = MaskSetting(spec.ratio, block, compared.seed)
    images = compared.open_images(compared.number(compared.effort.pictures))
    figure, rows = reconstruction_grid(networks, images, [setting], batch_size=compared.batch_size)
    caption = (
        f'The same images and mask ({setting}) for all; visible pixels are pasted. L1: mean '
        'absolute error over masked pixels, in standard deviations of the pixels.'
    )
    results.add_figure(figure, 'reconstructions', caption)
    results.add_table(rows, 'errors', 'Error of each image, and of its mean colour.')


def add_reconstruction_spectra(compared: Comparison, results: Results) -> None:
    """Spectra of masked blocks, compared with those of the image."""
    found = reconstruction_spectra(
        _with_decoder(compared),
        compared.spectrum_images,
        folder=results.folder / 'parts',
        seed=compared.seed,
        batch_size=compared.batch_size,
    )
    caption = (
        'Radially averaged log amplitude (natural log) in masked blocks, and the ratio to the '
        'image, by frequency in π per pixel.'
    )
    results.add_figure(draw_reconstructions(found), 'reconstructions', caption)


def _with_decoder(compared: Comparison) -> list[Network]:
    networks = [network for network in compared.networks if network.has_decoder]
    if not networks:
        raise ValueError('no network has a decoder; give a checkpoint of pre-training')
    return [one for one in networks if one.image_size == networks[0].image_size]


def add_feature_spectra(compared: Comparison, results: Results) -> None:
    """Log amplitudes and variance of feature maps over depth."""
    found = feature_spectra(
        compared.networks,
        compared.spectrum_images,
        folder=results.folder / 'parts',
        batch_size=compared.batch_size,
    )
    grey = ' Grey: pooling of the first network, or attention.'
    results.add_figure(
        draw_depth_curves(found),
        'log_amplitude',
        'Relative log amplitude (natural log) of features by frequency, one curve a depth.',
    )
    caption = f'Relative log amplitude at the highest frequency of the diagonal, by depth.{grey}'
    results.add_figure(draw_high_frequencies(found), 'high_frequency', caption)
    results.add_figure(draw_variance(found), 'variance', f'Spatial variance by depth.{grey}')
    columns = ('network', 'latent', 'depth', 'high_frequency', 'variance')
    rows = [{name: row[name] for name in columns} for row in feature_rows(found)]
    results.add_table(rows, 'features', 'Features at every depth.')


def add_interactions(compared: Comparison, results: Results) -> None:
    """Strength of interactions of neighbouring patches by the size of their context."""
    effort = compared.effort
    settings = InteractionSettings(
        grid=common_grid(compared.networks),
        pairs=effort.pairs,
        contexts=effort.contexts,
        ratios=RATIOS,
        seed=compared.seed,
        batch_size=max(4, compared.batch_size),
    )
    number = compared.number(effort.interaction_images)
    images = compared.open_images(number)
    found = measure_interactions(compared.networks, images, settings, results.folder / 'parts')
    caption = (
        f'Relative strength J of interactions between neighbouring patches (dimensionless, mean '
        f'over orders 1) by the size of their context; bands: 95 % bootstrap intervals over '
        f'{number} images and {effort.pairs} pairs; {effort.contexts} contexts.'
    )
    outputs = ', '.join(f'{one.output} of {label}' for label, one in found.items())
    caption += f' Output: {outputs}.'
    if none := [label for label, one in found.items() if np.isnan(one.estimate.relative).all()]:
        caption += f' No curve, since there are no interactions beyond rounding: {", ".join(none)}.'
    estimates = {label: one.estimate for label, one in found.items()}
    figure = draw_interactions(estimates, settings.orders, settings.grid**2)
    results.add_figure(figure, 'interactions', caption)
    rows = interaction_rows(found, settings)
    results.add_table(rows, 'interactions', 'Strength by order, of the output that is named.')


def add_robustness(compared: Comparison, results: Results) -> None:
    """Accuracy on occluded and shuffled images of classifiers of their classes, else similarity."""
    images, grid = compared.spectrum_images, common_grid(compared.networks)
    measure = choose_measure(compared.networks)
    try:
        check_measure(compared.networks, images, measure)
    except ValueError:
        measure = 'similarity'  # classifiers of other classes than those of the images
    shuffled = [side for side in (1, 2, 4, 8) if grid % side == 0]
    studies = {
        'occlusion': (
            occlusion_levels(OCCLUDED, grid),
            f'share of dropped patches of {grid}×{grid}',
        ),
        'shuffle': (shuffle_levels(shuffled), 'patches along a side'),
    }
    rows: list[dict[str, object]] = []
    for study, (levels, axis) in studies.items():
        curves = {
            network.label: robustness_curves(
                network,
                images,
                levels,
                measure,
                results.folder / 'parts' / study,
                dict(grid=grid),
                batch_size=compared.batch_size,
                seed=compared.seed,
            )
            for network in compared.networks
        }
        unit = 'Top-1 accuracy in %' if measure == 'accuracy' else 'Cosine similarity of features'
        caption = f'{unit} by {axis}, mean of {len(images)} images.'
        results.add_figure(draw_robustness(curves, axis, measure), study, caption)
        rows += robustness_rows(curves)
    results.add_table(rows, 'robustness', f'{measure.capitalize()} by change.')


def common_grid(networks: Sequence[Network]) -> int:
    """Largest number of cells along a side, up to ``FINEST``, that divides all image sizes."""
    side = gcd(*(side for network in networks for side in network.image_size))
    return max(cells for cells in range(1, FINEST + 1) if side % cells == 0)


class PooledBackbone(nn.Module):
    """The mean over positions of the last feature map, without the network's own pooling."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model, self.data_preprocessor = network.model, network.preprocessor
        self._network = network

    def forward(self, image: Tensor, mode: str) -> Tensor:
        """Normalized images to (B, D)."""
        return pooled_features(self._network, image)


def add_probes(compared: Comparison, results: Results) -> None:
    """Accuracies of all networks, and of each architecture with random weights."""
    train, test = (
        LabelledImages(
            compared.probe_images, split, compared.effort.labels_per_class, compared.seed
        )
        for split in SPLITS
    )
    if train.classes != test.classes:
        raise ValueError(
            f'{compared.probe_images}: the folders in train and val are different classes; give '
            'both the same'
        )
    networks = [*compared.networks, *random_baselines(compared.networks, compared.seed)]
    rows = [probe(network, train, test, compared.batch_size) for network in networks]
    caption = (
        f'Top-1 accuracy of frozen features (mean over positions of the last map), in %: '
        f'{len(train)} training and {len(test)} test images, {len(test.classes)} classes, '
        f'{min(NEIGHBOURS, len(train))} neighbours; ± one standard error of that many images.'
    )
    results.add_figure(draw_probes(rows, len(test)), 'probes', caption)
    shown = [
        row | {name: with_error(row[name], len(test)) for name in (KNN, LINEAR)} for row in rows
    ]
    results.add_table(shown, 'probes', 'Accuracies of the figure; width: of the features.')


def random_baselines(networks: Sequence[Network], seed: int) -> list[Network]:
    """Random weights for each architecture and image size without such a network."""
    known = {_design(network) for network in networks if network.source.startswith(RANDOM)}
    labels, baselines = {network.label for network in networks}, []
    for network in networks:
        if _design(network) not in known:
            known.add(_design(network))
            baseline = read_network(f'{RANDOM}{network.source}', network.device, seed)
            name = f'random {network.architecture}'
            while name in labels:
                name += ' (baseline)'
            labels.add(name)
            baselines.append(replace(baseline, label=name))
    return baselines


def probe(
    network: Network, train: LabelledImages, test: LabelledImages, batch_size: int
) -> dict[str, Any]:
    """A row of the table: label, width of the features, two accuracies."""
    model = PooledBackbone(network)
    splits = [
        extract_features(model, images.batches(network.image_size, batch_size))
        for images in (train, test)
    ]
    return {
        'network': network.label,
        'width': splits[0][0].shape[1],
        KNN: knn_accuracy(*splits, neighbours=min(NEIGHBOURS, len(train))),
        LINEAR: linear_probe_accuracy(*splits),
    }


def standard_error(accuracy: float, number: int) -> float:
    """Of an accuracy on ``number`` independent images, both in per cent."""
    return float(np.sqrt(accuracy * (100 - accuracy) / number))


def with_error(accuracy: float, number: int) -> str:
    """An accuracy with its standard error, as text."""
    return f'{accuracy:.1f} ± {standard_error(accuracy, number):.1f}'


def draw_probes(rows: Sequence[dict], number: int) -> Figure:
    """Bars with standard errors, one group for each network."""
    figure = Figure(figsize=(7, 0.55 * len(rows) + 1.4), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, name in ((-0.2, KNN), (0.2, LINEAR)):
        values = np.array([row[name] for row in rows])
        errors = [standard_error(value, number) for value in values]
        axes.barh(places + shift, values, 0.38, xerr=errors, capsize=2, label=name.split(' (')[0])
    axes.set_yticks(places, [row['network'] for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel='top-1 accuracy (%)', xlim=(0, 100))
    figure.legend(loc='outside upper center', ncols=2)
    return figure


def _design(network: Network) -> tuple[str, tuple[int, int]]:
    return network.architecture, network.image_size
