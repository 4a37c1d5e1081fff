"""Effective receptive fields: which pixels move the central position of a stage, and how much.

Axes: B batch, C channels, (H, W) pixels, (h, w) positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.spectra.latents import as_map
from a2mim.analysis.subject import Subject
from a2mim.models.backbones.timm_model import last_block

SHARES = (0.2, 0.3, 0.5, 0.99)


@dataclass(frozen=True)
class ReceptiveField:
    """Of one stage of one network.

    Attributes:
        stage: Path of the module.
        contribution: (H, W) float64, mean absolute gradient, sum over input channels.
        centre: (row, column) of the position, in pixels from the upper left corner.
    """

    stage: str
    contribution: np.ndarray
    centre: tuple[float, float]


def find_stage(model: nn.Module, place: str = '-1') -> str:
    """Path of a module: itself, or that of the stage with this number in timm's ``feature_info``.

    Raises:
        ValueError: If there is no such stage or module; the message names those that exist.
    """
    stages = [info['module'] for info in getattr(model, 'feature_info', [])]
    name = type(model).__name__
    if place.lstrip('-').isdigit():
        if not -len(stages) <= int(place) < len(stages):
            raise ValueError(
                f'{name} has no stage {place}; its {len(stages)} stages are {", ".join(stages)}'
            )
        return stages[int(place)]
    modules = [path for path, _ in model.named_modules() if path]
    if place not in modules:
        close = get_close_matches(place, modules, n=5)
        raise ValueError(
            f'{name} has no module {place!r}; its stages are {", ".join(stages) or "unknown"}'
            f'{"; close to it: " + ", ".join(close) if close else ""}'
        )
    return place


def central_gradient(
    model: nn.Module, place: str, images: Tensor
) -> tuple[Tensor, tuple[float, float]]:
    """Gradient at the input of the central position's sum over channels.

    Args:
        model: In evaluation mode, so that images do not mix.
        place: Path of a module that runs once.
        images: (B, C, H, W), normalised.

    Returns:
        (B, C, H, W), and the centre of the position (h // 2, w // 2) in pixels.

    Raises:
        ValueError: If the module does not run, or returns no map.
    """
    outputs: list[Tensor] = []
    module = last_block(model.get_submodule(place))
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            model(images)
    finally:
        handle.remove()
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor):
        raise ValueError(f'{place!r} does not return one tensor in one pass; give another stage')
    size = (images.shape[-2], images.shape[-1])
    features = as_map(model, outputs[0], size)
    rows, columns = features.shape[-2:]
    row, column = rows // 2, columns // 2
    (gradient,) = torch.autograd.grad(features[:, :, row, column].sum(), images)
    return gradient, ((row + 0.5) * size[0] / rows, (column + 0.5) * size[1] / columns)


def effective_receptive_field(
    subject: Subject, images: AnalysisImages, stage: str = '-1', batch_size: int = 64
) -> ReceptiveField:
    """Mean absolute gradient of the central position of a stage, over images.

    Every channel of the position has gradient 1.

    Raises:
        ValueError: See ``find_stage`` and ``central_gradient``.

    Reference:
        Luo et al., NeurIPS 2016 (https://arxiv.org/abs/1701.04128), section 3.
    """
    place = find_stage(subject.model, stage)
    total = torch.zeros(subject.image_size, dtype=torch.double)
    for start in range(0, len(images), batch_size):
        batch = images.pixels(subject.image_size, start, start + batch_size)
        gradient, centre = central_gradient(subject.model, place, subject.normalise(batch))
        total += gradient.abs().sum(dim=(0, 1)).double().cpu()
    if not total.sum() > 0:
        raise ValueError(f'{subject.label}: no pixel moves {place!r}; its gradient is zero')
    return ReceptiveField(place, (total / len(images)).numpy(), centre)


def square_with_share(
    field: ReceptiveField, shares: Sequence[float] = SHARES
) -> list[tuple[float, float]]:
    """Smallest square around the position that holds each share of the contribution.

    Returns:
        For each share the side in pixels and, of the part inside the image, the share of its
        area.

    Reference:
        Ding et al., RepLKNet, CVPR 2022 (https://arxiv.org/abs/2203.06717), table 10. They take
        the positive part of the mean gradient, here it is the mean of absolute values.
    """
    height, width = field.contribution.shape
    rows = np.abs(np.arange(height) + 0.5 - field.centre[0])
    columns = np.abs(np.arange(width) + 0.5 - field.centre[1])
    distance = np.maximum(rows[:, None], columns[None, :])  # (H, W)
    order = np.argsort(distance, axis=None, kind='stable')
    inside = np.cumsum(field.contribution.ravel()[order]) / field.contribution.sum()
    found = []
    for share in shares:
        last = min(int(np.searchsorted(inside, share - 1e-12)), order.size - 1)
        reach = distance.ravel()[order[last]]
        found.append((2 * reach + 1, float((distance <= reach).mean())))
    return found
