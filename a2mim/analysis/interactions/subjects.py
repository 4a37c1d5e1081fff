"""Interactions of several networks on the same images, one part for each image and network.

Axes: T images, M orders, P pairs, C contexts.
"""

import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.interactions.estimate import Estimate, estimate
from a2mim.analysis.interactions.measure import keep_present, measure_image
from a2mim.analysis.interactions.outputs import (
    FEATURE,
    LOGIT_OUTPUTS,
    choose_output,
    network_outputs,
    projection,
)
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.parts import PartStore
from a2mim.analysis.subject import Subject


@dataclass(frozen=True)
class Measured:
    """One network: ``delta`` (T, M, P, C), ``pairs`` (T, P, 2), which images, and the estimate."""

    output: str
    images: np.ndarray
    pairs: np.ndarray
    delta: np.ndarray
    estimate: Estimate


def check_subjects(
    subjects: Sequence[Subject], images: AnalysisImages, settings: InteractionSettings
) -> None:
    """Refuse what could only fail after a while.

    Raises:
        ValueError: If the grid does not divide an image, there are fewer than two images, or a
            network lacks the output or the classes.
    """
    if len(images) < 2:
        raise ValueError(f'{len(images)} image: confidence intervals need at least 2 --num-images')
    for subject in subjects:
        choose_output(subject, settings.output)
        _use_labels(subject, images, settings)
        for side in subject.image_size:
            if side % settings.grid:
                fits = [g for g in range(2, side + 1) if side % g == 0]
                raise ValueError(
                    f'grid={settings.grid} does not divide the {side} pixels of '
                    f'{subject.label}; grids that do are {", ".join(map(str, fits))}'
                )


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
        ValueError: See ``check_subjects``, or if ``store`` was filled with other settings, or
            ``correct_only`` leaves fewer than two images.
    """
    check_subjects(subjects, images, settings)
    return {
        subject.label: _measure_subject(subject, images, settings, store, advance)
        for subject in subjects
    }


@torch.inference_mode()
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
    slug = re.sub(r'[^\w.-]+', '_', subject.label)
    store = PartStore(folder / slug, _stored_settings(subject, images, settings))
    parts = {}
    for number in range(len(images)):
        told = 0

        def count(passes: int) -> None:
            nonlocal told
            told += passes
            advance(passes)

        part = store.compute(
            f'image{number}', lambda n=number: _part(subject, images, settings, n, count)
        )
        advance(settings.passes_per_image - told)
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
        estimate(found['delta'], float(found['scale'].max()), settings.seed),
    )


@torch.inference_mode()
def _part(
    subject: Subject,
    images: AnalysisImages,
    settings: InteractionSettings,
    number: int,
    advance: Callable[[int], None],
) -> Mapping[str, np.ndarray]:
    """The differences of one image; none if it should be classified correctly and is not."""
    pixels = images.pixels(subject.image_size, number, number + 1)
    batch = subject.normalise(pixels)
    whole = network_outputs(subject, batch)[0]
    label = int(whole.argmax())
    if _use_labels(subject, images, settings):
        given = int(images.labels[number])
        if settings.correct_only and given != label:
            return dict(pairs=np.empty(0), delta=np.empty(0), scale=np.zeros(()))
        label = given
    value = _value(subject, settings, whole, label)
    return measure_image(value, batch[0], number, settings, advance)


def _value(
    subject: Subject, settings: InteractionSettings, whole: Tensor, label: int
) -> Callable[[Tensor], Tensor]:
    """v, from masked images to (B,)."""
    output = choose_output(subject, settings.output)
    if output == FEATURE:
        return lambda batch: projection(network_outputs(subject, batch), whole)
    return lambda batch: LOGIT_OUTPUTS[output](network_outputs(subject, batch), label)


def _use_labels(subject: Subject, images: AnalysisImages, settings: InteractionSettings) -> bool:
    """Whether v is that of the label, not of the predicted class.

    Raises:
        ValueError: If labels are needed and there are none that fit.
    """
    fit = images.labels is not None and len(images.classes) == subject.num_classes > 0
    needed = settings.target == 'label' or settings.correct_only
    if needed and not fit:
        raise ValueError(
            f'{subject.label} has {subject.num_classes} classes, the images '
            f'{len(images.classes)}: labels cannot be used; take --target predicted without '
            '--correct-only'
        )
    return settings.correct_only or (fit and settings.target != 'predicted')


def _stored_settings(
    subject: Subject, images: AnalysisImages, settings: InteractionSettings
) -> dict[str, object]:
    names = '\n'.join(images.names)
    return dict(
        label=subject.label,
        fingerprint=subject.fingerprint(),
        images=f'{len(images)} images, {zlib.crc32(names.encode()):08x}',
        grid=settings.grid,
        pairs=settings.pairs,
        contexts=settings.contexts,
        ratios=settings.ratios,
        output=choose_output(subject, settings.output),
        label_of='image' if _use_labels(subject, images, settings) else 'network',
        correct_only=settings.correct_only,
        seed=settings.seed,
    )
