"""Accuracy, or similarity of features, of networks on changed images.

Axes: B batch, N images, C features, (H, W) pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.labels import check_labels
from a2mim.analysis.pooling import pooled_features
from a2mim.analysis.progress import progress
from a2mim.analysis.store import open_store
from a2mim.analysis.subject import Subject

MEASURES = ('accuracy', 'similarity')


@dataclass(frozen=True)
class Level:
    """One point of a curve.

    Attributes:
        curve: Name of the curve, safe in the name of a file.
        value: Where on the axis.
        change: (subject, uint8 (B, C, H, W), seed) to grey levels of the same shape.
    """

    curve: str
    value: float
    change: Callable[[Subject, Tensor, int], Tensor]


def choose_measure(subjects: Sequence[Subject]) -> str:
    """Accuracy where all tell classes apart, else similarity."""
    return 'accuracy' if all(subject.num_classes for subject in subjects) else 'similarity'


def check_measure(subjects: Sequence[Subject], images: AnalysisImages, measure: str) -> None:
    """Refuse accuracy without the labels of the network's own classes.

    Raises:
        ValueError: If there are no labels, or their classes are not as many.
    """
    if measure == 'similarity':
        return
    for subject in subjects:
        check_labels(subject, images)


def input_gradient(subject: Subject, pixels: Tensor) -> Tensor:
    """Gradient of half the squared length of the pooled feature, (B, C, H, W).

    No class is asked for, so that it is the same for a trunk and for a classifier.
    """
    with torch.enable_grad():
        batch = subject.normalise(pixels).requires_grad_()
        length = pooled_features(subject, batch).square().sum() / 2
        return torch.autograd.grad(length, batch)[0]


def robustness_curves(
    subject: Subject,
    images: AnalysisImages,
    levels: Sequence[Level],
    measure: str,
    folder: Path,
    settings: Mapping[str, object],
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """One curve for each name among ``levels``: values on the axis, and scores of all images.

    Args:
        subject: The network.
        images: What it is shown.
        levels: Changes of the images.
        measure: ``'accuracy'``: 100 where the highest score is the label's, else 0;
            ``'similarity'``: cosine of the pooled feature with that of the image as it is.
        folder: Where each level goes once it is measured, in a folder for the network.
        settings: What ``levels`` depend on.
        batch_size: Images in a forward pass; the random changes depend on it.
        seed: Of the changes.

    Returns:
        (V,) and (V, N) by name of the curve.
    """
    shared = dict(measure=measure, batch_size=batch_size, seed=seed)
    store = open_store(folder, subject, images, **settings, **shared)
    curves: dict[str, list] = {}
    for level in progress(levels, subject.label):

        def part(level: Level = level) -> dict[str, np.ndarray]:
            return dict(score=_scores(subject, images, level, measure, (batch_size, seed)))

        score = store.compute(f'{level.curve}_{level.value:g}', part)['score']
        curves.setdefault(level.curve, []).append((level.value, score))
    return {
        name: (np.array([value for value, _ in points]), np.stack([score for _, score in points]))
        for name, points in curves.items()
    }


@torch.no_grad()
def _scores(
    subject: Subject, images: AnalysisImages, level: Level, measure: str, how: tuple[int, int]
) -> np.ndarray:
    batch_size, seed = how
    found = []
    for start, stop in images.spans(batch_size):
        pixels = images.pixels(subject.image_size, start, stop)
        changed = subject.normalise(level.change(subject, pixels, seed + start))
        if measure == 'accuracy':
            labels = images.labels[start:stop].to(subject.device)
            found.append(100.0 * (subject.model(changed).argmax(dim=1) == labels).float())
        else:
            pair = (
                pooled_features(subject, changed),
                pooled_features(subject, subject.normalise(pixels)),
            )
            found.append(torch.cosine_similarity(*pair))
    return torch.cat(found).cpu().numpy()
