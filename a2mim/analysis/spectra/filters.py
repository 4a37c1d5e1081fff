"""Images without some of their frequencies, and noise that has only some.

Axes: B batch, C channels, (H, W) pixels. Frequencies are distances from zero in fractions of π
per pixel: 1 is the highest along an axis, √2 the highest of all, in the corners of the spectrum.
"""

import math

import torch
from torch import Tensor

from a2mim.analysis.spectra.log_amplitude import radial_frequency

HIGHEST = math.sqrt(2)


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """What (B, C, H, W) has at frequencies up to ``cutoff``, which is in [0, √2].

    Raises:
        ValueError: If ``cutoff`` is out of range.
    """
    check_cutoff(cutoff)
    return _keep(images, radial_frequency(_size(images)) <= cutoff)


def high_pass(images: Tensor, cutoff: float) -> Tensor:
    """What ``low_pass`` removes: frequencies above ``cutoff``."""
    check_cutoff(cutoff)
    return _keep(images, radial_frequency(_size(images)) > cutoff)


def band_noise(
    shape: tuple[int, ...], band: tuple[float, float], *, rms: float, generator: torch.Generator
) -> Tensor:
    """Gaussian noise with frequencies in [low, high) alone.

    Args:
        shape: (B, C, H, W).
        band: (low, high), in fractions of π.
        rms: Root of the mean square of every image, over channels and pixels.
        generator: Source of randomness, on the CPU.

    Raises:
        ValueError: If the band is empty or out of range, or ``rms`` is negative.
    """
    low, high = band
    check_cutoff(low)
    if not (math.isfinite(rms) and rms >= 0):
        raise ValueError(f'rms={rms} of the noise must be 0 or more')
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
    """Refuse a frequency that no image has.

    Raises:
        ValueError: If ``cutoff`` is not in [0, √2].
    """
    if not 0 <= cutoff <= HIGHEST:
        raise ValueError(f'a frequency of {cutoff} π is out of range; give 0 to {HIGHEST:.3f}')


def _keep(images: Tensor, kept: Tensor) -> Tensor:
    # Kept sets are the same at k and -k, so that the inverse transform is real.
    return torch.fft.ifft2(torch.fft.fft2(images) * kept.to(images.device)).real


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
