"""Effective receptive fields: gradient of a stage's central position with respect to the pixels.

Axes: B batch, C channels, (H, W) pixels, (h, w) positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.latents import as_map, stage_maps
from a2mim.analysis.networks import Network, measured_batches
from a2mim.models.timm_inspection import last_block

SHARES = (0.2, 0.3, 0.5, 0.99)
ROUNDING = 1e-4  # relative size of a gradient that is zero up to rounding
FLOOR = -4.0  # decades below the largest contribution


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of one stage of one network.

    Attributes:
        stage: Path of the module.
        contribution: (H, W) float64, mean absolute gradient, sum over input channels.
        center: (row, column) of the position in an even grid over the image, in pixels from the
            upper left corner.
    """

    stage: str
    contribution: np.ndarray
    center: tuple[float, float]


def find_stage(model: nn.Module, place: str = '-1') -> str:
    """Path of the module ``place``, or of the stage with this number in timm's ``feature_info``.

    Raises:
        ValueError: If there is no such stage or module; the message names those that exist.
    """
    stages = [info['module'] for info in getattr(model, 'feature_info', [])]
    name = type(model).__name__
    if is_number(place):
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


def is_number(place: str) -> bool:
    """Whether a stage is given by number."""
    return place.lstrip('-').isdigit()


def central_gradient(
    model: nn.Module, place: str | int, images: Tensor, *, alternate: bool = False
) -> tuple[Tensor, tuple[float, float]]:
    """Gradient of the central position's sum over channels with respect to the input.

    Args:
        model: In evaluation mode.
        place: Path of a module that runs once, or the number of a stage of timm.
        images: (B, C, H, W), normalized.
        alternate: Negate every second channel.

    Returns:
        (B, C, H, W), and the centre of position (h // 2, w // 2) in pixels of the image.

    Raises:
        ValueError: If the module does not run, or returns no map.
    """
    images = images.detach().requires_grad_()
    size = (images.shape[-2], images.shape[-1])
    with torch.enable_grad():
        if isinstance(place, int):
            (features,) = stage_maps(model, images, [place])
        else:
            features = as_map(model, _output_of(model, place, images), size)
    rows, columns = features.shape[-2:]
    row, column = rows // 2, columns // 2
    values = features[:, :, row, column].clone()
    if alternate:
        values[:, 1::2] *= -1
    (gradient,) = torch.autograd.grad(values.sum(), images)
    return gradient, ((row + 0.5) * size[0] / rows, (column + 0.5) * size[1] / columns)


def _output_of(model: nn.Module, place: str, images: Tensor) -> object:
    outputs: list[object] = []
    module = last_block(model.get_submodule(place))
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise ValueError(f'{place!r} runs {len(outputs)} times in a pass; give another stage')
    return outputs[0]


def effective_receptive_field(
    network: Network,
    images: AnalysisImages,
    stage: str = '-1',
    batch_size: int = 64,
    folder: Path | None = None,
) -> ReceptiveField:
    """Mean absolute gradient of the central position of a stage, over images.

    Every channel of the position has gradient 1.

    Reference:
        Luo et al., NeurIPS 2016 (https://arxiv.org/abs/1701.04128), section 3.
    """
    place = find_stage(network.model, stage)
    # timm reads stages by number: not every network has one module for each.
    source = int(stage) if is_number(stage) else place

    def measure(batch: Tensor, which: range) -> dict[str, np.ndarray]:
        gradient, center = central_gradient(network.model, source, batch)
        if which.start == 0:
            other, _ = central_gradient(network.model, source, batch[:1], alternate=True)
            if gradient[:1].abs().sum() <= ROUNDING * other.abs().sum():
                raise ValueError(
                    f'{network.label}: the sum of the channels of {place!r} has no gradient, as '
                    'after a layer norm with equal weights; give an earlier --stage, or trained '
                    'weights'
                )
        total = gradient.abs().sum(dim=(0, 1)).double().cpu().numpy()
        return dict(total=total, centre=np.array(center))

    found = measured_batches(
        network, images, measure, folder=folder, batch_size=batch_size, stage=place
    )
    parts = [part for _, part in found]
    total = np.sum([part['total'] for part in parts], axis=0)
    row, column = parts[0]['centre'].tolist()
    return ReceptiveField(place, total / len(images), (row, column))


def square_with_share(
    contribution: np.ndarray, shares: Sequence[float] = SHARES
) -> list[tuple[int, float]]:
    """Smallest square, anywhere in the image, that contains each share of (H, W) ``contribution``.

    Anywhere, since padding shifts the field of a position in a CNN by up to half a stride. Returns
    its side in pixels, and its share of the image's area, clipped to the image.

    Reference:
        Ding et al., RepLKNet, CVPR 2022 (https://arxiv.org/abs/2203.06717), appendix. They take
        the positive part of the gradient, and squares around the centre of the image.
    """
    height, width = contribution.shape
    summed = np.pad(contribution.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    held = []
    for side in range(1, max(height, width) + 1):
        h, w = min(side, height), min(side, width)
        inside = summed[h:, w:] - summed[:-h, w:] - summed[h:, :-w] + summed[:-h, :-w]
        held.append(inside.max() / summed[-1, -1])
    sides = [1 + int(np.searchsorted(held, share - 1e-9)) for share in shares]
    sides = [min(side, max(height, width)) for side in sides]
    return [(side, min(side, height) * min(side, width) / (height * width)) for side in sides]


def draw_receptive_fields(labels: Sequence[str], fields: Sequence[ReceptiveField]) -> Figure:
    """Draw one panel per network: log10 of the relative contribution, a cross at the centre."""
    figure = Figure(figsize=(3.0 * len(fields) + 1.0, 3.3), layout='constrained')
    panels = figure.subplots(1, len(fields), squeeze=False)[0]
    for panel, label, field in zip(panels, labels, fields, strict=True):
        height, width = field.contribution.shape
        relative = field.contribution / field.contribution.max()
        shown = panel.imshow(
            np.log10(np.maximum(relative, 10**FLOOR)),
            vmin=FLOOR,
            vmax=0,
            cmap='magma',
            extent=(0, width, height, 0),
        )
        panel.plot(field.center[1], field.center[0], '+', color='cyan', markersize=8)
        panel.set_title(f'{label}\n{field.stage}', fontsize=9)
        panel.set_xlabel('pixels')
    panels[0].set_ylabel('pixels')
    figure.colorbar(shown, ax=panels.tolist(), label='log10 of contribution / largest')
    return figure
