"""The interactions of one network on one of the images: its output for its class, and Δv."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.interactions.checks import use_labels
from a2mim.analysis.interactions.measure import measure_image
from a2mim.analysis.interactions.outputs import (
    FEATURE,
    LOGIT_OUTPUTS,
    choose_output,
    network_outputs,
    projection,
)
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.subject import Subject


@torch.no_grad()
def measure_part(
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
    if use_labels(subject, images, settings):
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
