"""What frozen features are worth: nearest neighbours and a linear probe, beside random weights.

Axes: N images, D features.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.pooling import pooled_features
from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.report.header import model_name
from a2mim.analysis.report.labelled_images import LabelledImages
from a2mim.analysis.results import Results
from a2mim.analysis.sources import RANDOM, read_subject
from a2mim.analysis.subject import Subject
from a2mim.evaluation.feature_probe import extract_features, knn_accuracy, linear_probe_accuracy

SPLITS = ('train', 'val')
NEIGHBOURS = 20
KNN, LINEAR = 'nearest neighbours (%)', 'linear probe (%)'


class PooledTrunk(nn.Module):
    """The mean over positions of the last feature map, whatever stands behind it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model, self.data_preprocessor = subject.model, subject.preprocessor
        self._subject = subject

    def forward(self, image: Tensor, mode: str) -> Tensor:
        """Normalised images to (B, D)."""
        return pooled_features(self._subject, image)


def add_probes(compared: Comparison, results: Results) -> None:
    """Accuracies of all networks and of one random twin for each architecture.

    Raises:
        ValueError: If the splits have different classes.
    """
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
    subjects = [*compared.subjects, *random_twins(compared.subjects, compared.seed)]
    rows = [probe(subject, train, test, compared.batch_size) for subject in subjects]
    caption = (
        f'Top-1 accuracy of frozen features (mean over positions of the last map), in %: '
        f'{len(train)} images fit, {len(test)} judge, {len(test.classes)} classes, '
        f'{min(NEIGHBOURS, len(train))} neighbours; ± one standard error of that many images.'
    )
    results.add_figure(draw_probes(rows, len(test)), 'probes', caption)
    shown = [
        row | {name: with_error(row[name], len(test)) for name in (KNN, LINEAR)} for row in rows
    ]
    results.add_table(shown, 'probes', 'Accuracies of the figure; width: of the features.')


def random_twins(subjects: Sequence[Subject], seed: int) -> list[Subject]:
    """One for each architecture and image size that is not among ``subjects`` at random."""
    known = {_design(subject) for subject in subjects if subject.source.startswith(RANDOM)}
    labels, twins = {subject.label for subject in subjects}, []
    for subject in subjects:
        if _design(subject) not in known:
            known.add(_design(subject))
            twin = read_subject(f'{RANDOM}{subject.source}', subject.device, seed)
            name = f'random {model_name(subject)}'
            while name in labels:
                name += ' (twin)'
            labels.add(name)
            twins.append(replace(twin, label=name))
    return twins


def probe(
    subject: Subject, train: LabelledImages, test: LabelledImages, batch_size: int
) -> dict[str, object]:
    """A row of the table."""
    model = PooledTrunk(subject)
    splits = [
        extract_features(model, images.batches(subject.image_size, batch_size))
        for images in (train, test)
    ]
    row = {'network': subject.label, 'width': splits[0][0].shape[1]}
    row[KNN] = knn_accuracy(*splits, neighbours=min(NEIGHBOURS, len(train)))
    return row | {LINEAR: linear_probe_accuracy(*splits)}


def standard_error(accuracy: float, number: int) -> float:
    """Of a share of ``number`` independent images, in per cent like ``accuracy``."""
    return float(np.sqrt(accuracy * (100 - accuracy) / number))


def with_error(accuracy: float, number: int) -> str:
    """Text of an accuracy."""
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


def _design(subject: Subject) -> tuple[str, tuple[int, int]]:
    return model_name(subject), subject.image_size
