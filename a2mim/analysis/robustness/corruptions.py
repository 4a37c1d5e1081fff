"""Corruptions of images, in five severities, made of operations of torchvision and OpenCV.

Severities of noise, blur, contrast, JPEG and pixelation are those of the reference for 224 pixels.
Brightness, saturation and elastic are other operations than there, with severities of our own. Of
the reference's fifteen, shot and impulse noise, defocus, glass, motion and zoom blur, snow, frost
and fog are not provided.

Axes: B images, C channels, (H, W) pixels.

Reference:
    Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations, ICLR 2019 (https://arxiv.org/abs/1903.12261).
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

SEVERITIES = (1, 2, 3, 4, 5)


def _noise(pixels: Tensor, deviation: float) -> Tensor:
    noisy = functional.gaussian_noise(pixels.float() / 255, sigma=deviation)
    return (255 * noisy).round().to(torch.uint8)


def _blur(pixels: Tensor, deviation: float) -> Tensor:
    # The kernel ends at four deviations, and torch pads by reflection only within the image.
    widest = min(pixels.shape[-2:]) - 1
    radius = min(round(4 * deviation), widest)
    return functional.gaussian_blur(pixels, [2 * radius + 1] * 2, [deviation] * 2)


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    # OpenCV's: torchvision gives its own coder up. One image at a time, as every coder does.
    return torch.stack([_jpeg_copy(image, int(quality)) for image in pixels])


def _jpeg_copy(image: Tensor, quality: int) -> Tensor:
    rows = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])  # BGR, as OpenCV wants
    _, coded = cv2.imencode('.jpg', rows, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].copy()
    return torch.from_numpy(decoded).permute(2, 0, 1)


def _pixelate(pixels: Tensor, share: float) -> Tensor:
    size = pixels.shape[-2:]
    small = [max(1, int(side * share)) for side in size]
    coarse = torch.nn.functional.interpolate(pixels.float(), small, mode='area')
    # By area again, as the reference does: nearest neighbours would shift what does not divide.
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
    """Refuse what is not provided.

    Raises:
        ValueError: If ``name`` is unknown.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f'corruption {name!r} is unknown; there are {", ".join(CORRUPTIONS)}')


def corrupt(pixels: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """Corrupted copy of uint8 (B, 3, H, W) on the CPU; ``seed`` determines noise and shifts.

    Raises:
        ValueError: If the corruption or the severity is unknown.
    """
    check_corruption(name)
    if severity not in SEVERITIES:
        raise ValueError(f'severity {severity} must be one of 1 to 5')
    operation, arguments = CORRUPTIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return operation(pixels, arguments[severity - 1])
