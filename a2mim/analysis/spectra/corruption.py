"""What a network still gets right when some frequencies of its input are gone, or noisy.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.labels import check_labels
from a2mim.analysis.progress import progress
from a2mim.analysis.spectra.filters import HIGHEST, band_noise, check_cutoff, high_pass, low_pass
from a2mim.analysis.spectra.reconstructions import image_masks
from a2mim.analysis.store import open_store
from a2mim.analysis.subject import Subject
from a2mim.masking import upsample_mask

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
