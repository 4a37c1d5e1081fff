"""Scores of networks when frequencies of their input are removed or noisy.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks. Frequencies are distances from zero in
fractions of π per pixel: 1 is the highest along an axis, √2 the highest of all, in the corners of
the spectrum.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Network, check_labels, open_store, top1_hits
from a2mim.analysis.results import progress
from a2mim.analysis.spectra import add_legend, image_masks, radial_frequency, single_panel
from a2mim.masking import upsample_mask

ACCURACY, ERROR = 'top-1 accuracy in %', 'mean absolute error in masked blocks'
LINES = ('-', '--')
HIGHEST = math.sqrt(2)


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """Keep the frequencies of (B, C, H, W) up to ``cutoff``, which must be in [0, √2]."""
    check_cutoff(cutoff)
    return _keep(images, radial_frequency((images.shape[-2], images.shape[-1])) <= cutoff)


def high_pass(images: Tensor, cutoff: float) -> Tensor:
    """Keep the frequencies above ``cutoff``, which ``low_pass`` removes."""
    check_cutoff(cutoff)
    return _keep(images, radial_frequency((images.shape[-2], images.shape[-1])) > cutoff)


def band_noise(
    shape: tuple[int, ...], band: tuple[float, float], *, rms: float, generator: torch.Generator
) -> Tensor:
    """Gaussian noise (B, C, H, W) with frequencies in [low, high) alone, in fractions of π.

    ``rms`` is the root mean square of every image, over channels and pixels.

    Raises:
        ValueError: If the band is empty or out of range, or ``rms`` is negative.
    """
    low, high = band
    check_cutoff(low)
    _check_rms(rms)
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
    """Raise a ValueError unless ``cutoff`` is in [0, √2]."""
    if not 0 <= cutoff <= HIGHEST:
        raise ValueError(f'a frequency of {cutoff} π is out of range; give 0 to {HIGHEST:.3f}')


def _check_rms(rms: float) -> None:
    if not 0 <= rms < float('inf'):
        raise ValueError(f'rms={rms} of the noise must be 0 or more')


def _keep(images: Tensor, kept: Tensor) -> Tensor:
    # The mask is symmetric in k and -k, so that the inverse transform is real.
    return torch.fft.ifft2(torch.fft.fft2(images) * kept.to(images.device)).real


@dataclass(frozen=True)
class Corruption:
    """One change of the input: a point of a line in the figure.

    Attributes:
        curve: Name of the line.
        frequency: Position on it, in fractions of π.
        apply: Changes normalized images (B, C, H, W), given the index of the first one.
    """

    curve: str
    frequency: float
    apply: Callable[[Tensor, int], Tensor]


def filters(cutoffs: Sequence[float]) -> list[Corruption]:
    """Ideal low-pass and high-pass filters at each of ``cutoffs``."""
    if not cutoffs:
        raise ValueError('give at least one cut-off frequency')
    for cutoff in cutoffs:
        check_cutoff(cutoff)
    return [
        Corruption(curve, cutoff, partial(_filtered, apply, cutoff))
        for curve, apply in (('low-pass', low_pass), ('high-pass', high_pass))
        for cutoff in sorted(cutoffs)
    ]


def noises(bands: int, rms: float, seed: int = 0) -> list[Corruption]:
    """Noise in each of ``bands`` bands of equal width; ``rms`` is in normalized pixels."""
    if bands < 1:
        raise ValueError(f'{bands} bands of noise were asked for; give 1 or more')
    _check_rms(rms)
    # The last band is closed: it includes the corner of the spectrum.
    edges = [*(HIGHEST * index / bands for index in range(bands)), HIGHEST + 1e-6]
    return [
        Corruption('noise', (low + high) / 2, partial(_noisy, (low, high), rms, seed))
        for low, high in pairwise(edges)
    ]


def metric_of(networks: Sequence[Network], images: AnalysisImages) -> str:
    """Score that all ``networks`` have on ``images``: ``ACCURACY``, or ``ERROR``.

    Raises:
        ValueError: If a network neither classifies nor reconstructs, if they differ, or if the
            images have no labels of its classes.
    """
    metrics = {network.label: _metric(network) for network in networks}
    if len(set(metrics.values())) > 1:
        raise ValueError(
            'classifiers and networks that reconstruct have no score in common '
            f'({", ".join(f"{label}: {metric}" for label, metric in metrics.items())}); run the '
            'tool once for each kind'
        )
    metric = next(iter(metrics.values()))
    if metric == ACCURACY:
        for network in networks:
            check_labels(network, images)
    return metric


def corruption_scores(
    networks: Sequence[Network],
    images: AnalysisImages,
    corruptions: Sequence[Corruption],
    *,
    folder: Path,
    seed: int = 0,
    batch_size: int = 64,
    **settings: object,
) -> dict[str, np.ndarray]:
    """Score of every network on clean and on corrupted images, (1 + corruptions,), by label.

    The score is that of ``metric_of``; the target of a reconstruction stays clean.
    """
    metric_of(networks, images)
    clean = Corruption('clean', 0.0, lambda batch, _start: batch)
    scores = {}
    for network in networks:
        store = open_store(folder, network, images, seed=seed, **settings)
        found = []
        for one in progress([clean, *corruptions], network.label):
            name = f'{one.curve}_{one.frequency:.6f}'
            score = partial(_score, network, images, one, seed, batch_size)
            found.append(store.compute(name, score)['score'].item())
        scores[network.label] = np.array(found)
    return scores


def score_rows(
    scores: Mapping[str, np.ndarray], corruptions: Sequence[Corruption]
) -> list[dict[str, object]]:
    """A table row for each network and input, clean or corrupted."""
    points = [('clean', None), *((one.curve, one.frequency) for one in corruptions)]
    return [
        dict(network=label, input=curve, frequency=frequency, score=score)
        for label, values in scores.items()
        for (curve, frequency), score in zip(points, values.tolist(), strict=True)
    ]


@torch.no_grad()
def _score(
    network: Network, images: AnalysisImages, corruption: Corruption, seed: int, batch_size: int
) -> dict[str, np.ndarray]:
    total = 0.0
    for start, stop in images.spans(batch_size):
        clean = network.normalize(images.pixels(network.image_size, start, stop))
        changed = corruption.apply(clean, start)
        if network.has_decoder:
            scores = _errors(network, changed, clean, range(start, stop), seed)
        else:
            scores = top1_hits(network, images, changed, start)
        total += scores.double().sum().item()
    return dict(score=np.array(total / len(images)))


def _errors(network: Network, changed: Tensor, clean: Tensor, which: range, seed: int) -> Tensor:
    """(B,) mean absolute error over masked pixels."""
    mask = image_masks(network.pretraining.input_spec, seed, which).to(network.device)
    drawn = network.pretraining.predict(changed, mask)['reconstruction']
    masked = upsample_mask(mask, (clean.shape[-2], clean.shape[-1])).unsqueeze(1)
    error = (masked * (drawn - clean).abs()).double().sum(dim=(1, 2, 3))
    return error / (clean.shape[1] * masked.sum(dim=(1, 2, 3))).clamp(min=1)


def _metric(network: Network) -> str:
    if network.has_decoder:
        return ERROR
    if network.num_classes:
        return ACCURACY
    raise ValueError(
        f'{network.label} is a backbone without classifier and decoder; give a fine-tuned '
        'checkpoint, or a whole pre-training checkpoint'
    )


def _filtered(apply: Callable, cutoff: float, batch: Tensor, _start: int) -> Tensor:
    return apply(batch, cutoff)


def _noisy(band: tuple[float, float], rms: float, seed: int, batch: Tensor, start: int) -> Tensor:
    shape = (1, *batch.shape[1:])
    # One seed per image: its noise does not depend on the batch.
    noise = [
        band_noise(
            shape, band, rms=rms, generator=torch.Generator().manual_seed(seed * 2**32 + index)
        )
        for index in range(start, start + len(batch))
    ]
    return batch + torch.cat(noise).to(batch)


def draw_scores(
    scores: Mapping[str, np.ndarray], corruptions: Sequence[Corruption], metric: str, xlabel: str
) -> Figure:
    """Draw the score of each network by frequency; dotted: clean images."""
    figure, axes = single_panel()
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
    add_legend(figure, axes)
    return figure
