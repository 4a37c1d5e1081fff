"""Robustness of networks to occluded, shuffled and corrupted images.

Axes: B batch, N images, C channels, (H, W) pixels, (h, w) patches, V values on the axis of a curve.

Corruptions have five severities. Those of noise, blur, contrast, JPEG and pixelation are those of
Hendrycks and Dietterich for 224 pixels; brightness, saturation and elastic are different operations
with severities of our own. Of their fifteen, shot and impulse noise, defocus, glass, motion and
zoom blur, snow, frost and fog are not provided.

Naseer et al. find salient patches with a second network (DINO) and occlude with black; here the
network itself defines saliency, and the fill is the mean colour.

Reference:
    Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations, ICLR 2019 (https://arxiv.org/abs/1903.12261); Naseer et al., Intriguing
    Properties of Vision Transformers, NeurIPS 2021 (https://arxiv.org/abs/2105.10497).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Network, check_labels, open_store, pooled_features, top1_hits
from a2mim.analysis.results import progress
from a2mim.masking import fill_masked, num_masked_patches

SEVERITIES = (1, 2, 3, 4, 5)
MEASURES = ('accuracy', 'similarity')
ORDERS = ('random', 'salient', 'background')
COLUMNS = 4  # panels of the figure in a row
Curve = tuple[np.ndarray, np.ndarray]  # values (V,) and scores (V, N)


def _noise(pixels: Tensor, deviation: float) -> Tensor:
    noisy = functional.gaussian_noise(pixels.float() / 255, sigma=deviation)
    return (255 * noisy).round().to(torch.uint8)


def _blur(pixels: Tensor, deviation: float) -> Tensor:
    # The kernel ends at four standard deviations; torch pads by reflection within the image only.
    widest = min(pixels.shape[-2:]) - 1
    radius = min(round(4 * deviation), widest)
    return functional.gaussian_blur(pixels, [2 * radius + 1] * 2, [deviation] * 2)


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    # By OpenCV: torchvision's JPEG encoder is deprecated.
    return torch.stack([_jpeg_copy(image, int(quality)) for image in pixels])


def _jpeg_copy(image: Tensor, quality: int) -> Tensor:
    rows = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])  # BGR, as OpenCV wants
    _, coded = cv2.imencode('.jpg', rows, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return torch.from_numpy(decoded[..., ::-1].copy()).permute(2, 0, 1)


def _pixelate(pixels: Tensor, share: float) -> Tensor:
    size = pixels.shape[-2:]
    small = [max(1, int(side * share)) for side in size]
    coarse = torch.nn.functional.interpolate(pixels.float(), small, mode='area')
    # By area again, as the reference does: nearest neighbour shifts sizes that do not divide.
    return torch.nn.functional.interpolate(coarse, size, mode='area').round().to(torch.uint8)


def _elastic(pixels: Tensor, alpha: float) -> Tensor:
    return v2.ElasticTransform(alpha=alpha, sigma=4.0)(pixels)


# Operation, and its argument for severity 1 to 5.
CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    'gaussian_noise': (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    'gaussian_blur': (_blur, (1, 2, 3, 4, 6)),
    'jpeg': (_jpeg, (25, 18, 15, 10, 7)),
    'pixelate': (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    'contrast': (functional.adjust_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    'brightness': (functional.adjust_brightness, (1.2, 1.4, 1.6, 1.8, 2.0)),
    'saturation': (functional.adjust_saturation, (0.8, 0.6, 0.4, 0.2, 0.0)),
    'elastic': (_elastic, (20, 40, 60, 80, 100)),
}


def check_corruption(name: str) -> None:
    """Raise a ValueError unless the corruption is known."""
    if name not in CORRUPTIONS:
        raise ValueError(f'corruption {name!r} is unknown; there are {", ".join(CORRUPTIONS)}')


def corrupt(pixels: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """Corrupted copy of uint8 (B, 3, H, W) on the CPU; ``seed`` determines the randomness."""
    check_corruption(name)
    if severity not in SEVERITIES:
        raise ValueError(f'severity {severity} must be one of 1 to 5')
    operation, arguments = CORRUPTIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return operation(pixels, arguments[severity - 1])


def patch_mask(saliency: Tensor, ratio: float, order: str, rng: np.random.Generator) -> Tensor:
    """Mask of dropped patches (B, h, w), 1 where dropped: ``ceil(ratio * h * w)`` of every image.

    ``order`` is ``'random'``; ``'salient'``, highest ``saliency`` (B, h, w) first; or
    ``'background'``, lowest first.
    """
    if order not in ORDERS:
        raise ValueError(f'order {order!r} must be one of {", ".join(ORDERS)}')
    number = num_masked_patches((saliency.shape[1], saliency.shape[2]), ratio)
    keys = saliency.flatten(1)  # (B, h·w)
    if order == 'random':
        keys = torch.from_numpy(rng.random(tuple(keys.shape)))
    dropped = keys.argsort(dim=1, descending=order == 'salient')[:, :number]
    mask = torch.zeros(keys.shape, device=keys.device).scatter_(1, dropped, 1.0)
    return mask.view(saliency.shape)


def drop_patches(pixels: Tensor, mask: Tensor) -> Tensor:
    """Fill the patches of ``mask`` (B, h, w) in (B, C, H, W) with the image's mean colour.

    Returns float32 pixel values in [0, 255].
    """
    return fill_masked(pixels.float(), mask.to(pixels.device))


def patch_saliency(gradient: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean magnitude of an input gradient (B, C, H, W) in each patch, (B, h, w)."""
    size = (gradient.shape[2] // grid[0], gradient.shape[3] // grid[1])
    magnitude = gradient.abs().sum(dim=1, keepdim=True)  # (B, 1, H, W)
    return torch.nn.functional.avg_pool2d(magnitude, size).squeeze(1)


def input_gradient(network: Network, pixels: Tensor) -> Tensor:
    """Gradient of half the squared norm of the pooled feature, (B, C, H, W).

    It needs no class, so that it is the same with and without a classifier.
    """
    with torch.enable_grad():
        batch = network.normalize(pixels).requires_grad_()
        length = pooled_features(network, batch).square().sum() / 2
        return torch.autograd.grad(length, batch)[0]


def shuffle_patches(pixels: Tensor, grid: int, rng: np.random.Generator) -> Tensor:
    """Permute the ``grid`` × ``grid`` patches of (B, C, H, W), each image differently."""
    check_grid(grid, pixels)
    batch, channels, height, width = pixels.shape
    h, w = height // grid, width // grid
    patches = pixels.view(batch, channels, grid, h, grid, w).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(batch, grid * grid, channels, h, w)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(grid * grid), (batch, 1)), axis=1))
    patches = patches[torch.arange(batch).unsqueeze(1), order]
    patches = patches.view(batch, grid, grid, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(pixels.shape)


def check_grid(grid: int, pixels: Tensor) -> None:
    """Raise a ValueError unless ``grid`` divides the images (B, C, H, W)."""
    height, width = pixels.shape[-2:]
    if grid < 1 or height % grid or width % grid:
        raise ValueError(f'a grid of {grid}×{grid} patches does not divide {height}×{width} pixels')


@dataclass(frozen=True)
class Level:
    """One point of a curve.

    Attributes:
        curve: Name of the curve, valid in a file name.
        value: Position on the axis.
        change: (network, uint8 (B, C, H, W), seed) to pixel values in [0, 255], same shape.
    """

    curve: str
    value: float
    change: Callable[[Network, Tensor, int], Tensor]


def occlusion_levels(
    ratios: Sequence[float], grid: int, orders: Sequence[str] = ORDERS
) -> list[Level]:
    """Levels of occlusion: shares of dropped patches on a ``grid`` × ``grid``, in each order."""
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio {ratio} must lie in [0, 1]')

    def level(order: str, ratio: float) -> Level:
        def change(network: Network, pixels: Tensor, seed: int) -> Tensor:
            check_grid(grid, pixels)
            if order == 'random':
                saliency = torch.zeros(len(pixels), grid, grid)
            else:
                saliency = patch_saliency(input_gradient(network, pixels), (grid, grid)).cpu()
            mask = patch_mask(saliency, ratio, order, np.random.default_rng(seed))
            return drop_patches(pixels, mask)

        return Level(order, ratio, change)

    return [level(order, ratio) for order in orders for ratio in ratios]


def shuffle_levels(grids: Sequence[int]) -> list[Level]:
    """Levels of shuffling: patches along a side; 1 is the unchanged image."""

    def level(grid: int) -> Level:
        def change(network: Network, pixels: Tensor, seed: int) -> Tensor:
            return shuffle_patches(pixels, grid, np.random.default_rng(seed))

        return Level('shuffled', grid, change)

    return [level(grid) for grid in grids]


def corruption_levels(names: Sequence[str]) -> list[Level]:
    """Levels of corruption: severity 0, the unchanged image, to 5 of each."""

    def level(name: str, severity: int) -> Level:
        def change(network: Network, pixels: Tensor, seed: int) -> Tensor:
            return corrupt(pixels, name, severity, seed) if severity else pixels

        return Level(name, severity, change)

    for name in names:
        check_corruption(name)
    return [level(name, severity) for name in names for severity in (0, *SEVERITIES)]


def choose_measure(networks: Sequence[Network]) -> str:
    """Accuracy if all networks are classifiers, else similarity."""
    return 'accuracy' if all(network.num_classes for network in networks) else 'similarity'


def check_measure(networks: Sequence[Network], images: AnalysisImages, measure: str) -> None:
    """Check that accuracy can be measured, see ``check_labels``."""
    if measure == 'accuracy':
        for network in networks:
            check_labels(network, images)


def robustness_curves(
    network: Network,
    images: AnalysisImages,
    levels: Sequence[Level],
    measure: str,
    folder: Path,
    settings: Mapping[str, object],
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, Curve]:
    """One curve for each name among ``levels``: values on the axis, and scores of all images.

    The score is for ``'accuracy'`` 100 if the highest logit is the label's, else 0; for
    ``'similarity'`` the cosine of the pooled feature with that of the unchanged image. The random
    changes depend on ``batch_size`` and ``seed``.
    """
    shared = dict(measure=measure, batch_size=batch_size, seed=seed)
    store = open_store(folder, network, images, **settings, **shared)
    curves: dict[str, list] = {}
    for level in progress(levels, network.label):

        def part(level: Level = level) -> dict[str, np.ndarray]:
            return dict(
                score=_scores(network, images, level, measure, batch_size=batch_size, seed=seed)
            )

        score = store.compute(f'{level.curve}_{level.value:g}', part)['score']
        curves.setdefault(level.curve, []).append((level.value, score))
    return {
        name: (np.array([value for value, _ in points]), np.stack([score for _, score in points]))
        for name, points in curves.items()
    }


@torch.no_grad()
def _scores(
    network: Network,
    images: AnalysisImages,
    level: Level,
    measure: str,
    *,
    batch_size: int,
    seed: int,
) -> np.ndarray:
    found = []
    for start, stop in images.spans(batch_size):
        pixels = images.pixels(network.image_size, start, stop)
        changed = network.normalize(level.change(network, pixels, seed + start))
        if measure == 'accuracy':
            found.append(top1_hits(network, images, changed, start))
        else:
            first, second = (
                pooled_features(network, batch) for batch in (changed, network.normalize(pixels))
            )
            found.append(torch.cosine_similarity(first, second))
    return torch.cat(found).cpu().numpy()


def robustness_rows(curves: Mapping[str, Mapping[str, Curve]]) -> list[dict[str, object]]:
    """A table row for each network, change and value: the mean score over images."""
    return [
        dict(network=label, change=name, value=value, score=float(score.mean()))
        for label, own in curves.items()
        for name, (values, scores) in own.items()
        for value, score in zip(values.tolist(), scores, strict=True)
    ]


def draw_robustness(curves: Mapping[str, Mapping[str, Curve]], axis: str, measure: str) -> Figure:
    """Draw mean scores over images: one panel for each change, one line for each network.

    ``curves`` are by label, and ``axis`` names the changed quantity with its unit.
    """
    names = list(next(iter(curves.values())))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(5.0, 2.7 * columns), 2.5 * rows + 0.7), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for name, panel in zip(names, panels.flat, strict=False):
        for label, own in curves.items():
            values, scores = own[name]
            panel.plot(values, scores.mean(axis=1), marker='.', label=label)
        panel.set_title(name.replace('_', ' '), fontsize=10)
    figure.supxlabel(axis, fontsize=10)
    unit = 'top-1 accuracy in %' if measure == 'accuracy' else 'cosine similarity'
    figure.supylabel(unit, fontsize=10)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc='outside upper center', ncols=3)
    return figure
