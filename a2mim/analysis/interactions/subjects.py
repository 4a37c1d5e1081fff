"""Interactions of several networks on the same images, one part for each image and network.

Axes: T images, M orders, P pairs, C contexts.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.interactions.checks import check_subjects, use_labels
from a2mim.analysis.interactions.estimate import Estimate, estimate_strength
from a2mim.analysis.interactions.image_part import measure_part
from a2mim.analysis.interactions.measure import keep_present
from a2mim.analysis.interactions.outputs import choose_output, network_outputs
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.store import open_store
from a2mim.analysis.subject import Subject


@dataclass(frozen=True)
class Measured:
    """One network: ``delta`` (T, M, P, C), ``pairs`` (T, P, 2), which images, and the estimate."""

    output: str
    images: np.ndarray
    pairs: np.ndarray
    delta: np.ndarray
    estimate: Estimate


def measure_interactions(
    subjects: Sequence[Subject],
    images: AnalysisImages,
    settings: InteractionSettings,
    store: Path,
    advance: Callable[[int], None] = lambda passes: None,
) -> dict[str, Measured]:
    """What each network measures, by label; images that are in ``store`` are not measured again.

    Args:
        subjects: The networks; pairs and contexts are the same for all.
        images: The same for all.
        settings: Numbers and choices.
        store: Folder of the parts.
        advance: Told the number of forward passes after each batch, and of each stored image.

    Raises:
        ValueError: See ``check_subjects``, or if ``correct_only`` leaves fewer than two images.
    """
    check_subjects(subjects, images, settings)
    return {
        subject.label: _measure_subject(subject, images, settings, store, advance)
        for subject in subjects
    }


def file_name(label: str) -> str:
    """``label`` as the name of a file."""
    return re.sub(r'[^\w.-]+', '_', label)


@torch.no_grad()
def passes_per_second(subject: Subject, settings: InteractionSettings) -> float:
    """Masked images that ``subject`` takes in a second, from one batch after another to warm up."""
    image = torch.zeros(subject.channels, *subject.image_size, device=subject.device)
    players = settings.grid**2
    present = torch.ones(settings.batch_size, players, dtype=torch.bool, device=subject.device)
    for _ in range(2):
        start = time.perf_counter()
        # The sum waits for the device.
        network_outputs(subject, keep_present(image, present)).sum().item()
        seconds = time.perf_counter() - start
    return settings.batch_size / seconds


def _measure_subject(
    subject: Subject,
    images: AnalysisImages,
    settings: InteractionSettings,
    folder: Path,
    advance: Callable[[int], None],
) -> Measured:
    store = open_store(folder, subject, images, **_stored_settings(subject, images, settings))
    parts = {}
    for number in range(len(images)):
        told = []
        part = store.compute(
            f'image{number}',
            lambda number=number, told=told: measure_part(
                subject,
                images,
                settings,
                number,
                lambda passes: told.append(passes) or advance(passes),
            ),
        )
        if not told:  # from the store, or left out
            advance(settings.passes_per_image)
        if part['delta'].size:
            parts[number] = part
    if len(parts) < 2:
        raise ValueError(
            f'{subject.label} classifies {len(parts)} of {len(images)} images correctly; take more '
            '--num-images, or leave --correct-only out'
        )
    found = {key: np.stack([p[key] for p in parts.values()]) for key in ('pairs', 'delta', 'scale')}
    return Measured(
        choose_output(subject, settings.output),
        np.array(list(parts)),
        found['pairs'],
        found['delta'],
        estimate_strength(found['delta'], float(found['scale'].max()), settings.seed),
    )


def _stored_settings(
    subject: Subject, images: AnalysisImages, settings: InteractionSettings
) -> dict[str, object]:
    return dict(
        grid=settings.grid,
        pairs=settings.pairs,
        contexts=settings.contexts,
        ratios=settings.ratios,
        output=choose_output(subject, settings.output),
        label_of='image' if use_labels(subject, images, settings) else 'network',
        correct_only=settings.correct_only,
        seed=settings.seed,
    )
