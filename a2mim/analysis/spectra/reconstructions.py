"""Which frequencies a network draws behind the mask, against those of the image.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks, F rings of frequency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.analysis.batches import measured_batches
from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.spectra.log_amplitude import log_amplitude_map, ring_frequencies, ring_means
from a2mim.analysis.subject import Subject
from a2mim.masking import block_grid, random_block_mask


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
    return {s.label: _measure(s, images, folder, seed, batch_size) for s in subjects}


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


def _measure(
    subject: Subject, images: AnalysisImages, folder: Path, seed: int, batch_size: int
) -> ReconstructionSpectra:
    total = dict(target=0.0, reconstruction=0.0)
    measure = partial(_batch, subject, seed)
    options = dict(folder=folder, batch_size=batch_size, seed=seed)
    for which, part in measured_batches(subject, images, measure, **options):
        for name in total:
            total[name] = total[name] + len(which) / len(images) * part[name]
    return ReconstructionSpectra(ring_frequencies(_block(subject.whole)), **total)


def _batch(subject: Subject, seed: int, normalised: Tensor, which: range) -> dict[str, np.ndarray]:
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
