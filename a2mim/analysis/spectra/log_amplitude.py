"""How strong each frequency is: log amplitudes along the diagonal of a spectrum, and in rings.

Axes: B batch, C channels, (H, W) positions, F frequencies. Frequencies are fractions of π per
position, the highest that a grid can carry along an axis.

Reference:
    Park and Kim, How do vision transformers work?, ICLR 2022 (https://arxiv.org/abs/2202.06709).
"""

import numpy as np
import torch
from torch import Tensor

FLOOR = 1e-6  # added to amplitudes, so that the log of none is finite


def log_amplitude_map(features: Tensor) -> Tensor:
    """``log(|FFT| + 1e-6)`` of (B, C, H, W), mean over B and C: (H, W), not shifted.

    The transform is not scaled, and the log is natural. Computed in at least single precision.
    """
    if not features.dtype.is_floating_point or features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return (torch.fft.fft2(features).abs() + FLOOR).log().mean(dim=(0, 1))


def diagonal_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) fractions of π of ``diagonal`` of a (H, W) map, F = ceil(min(H, W) / 2).

    An even side of n has no entry at π: its last one is 1 - 2 / n.
    """
    side = min(size)
    return 2 * np.arange((side + 1) // 2) / side


def diagonal(amplitudes: Tensor) -> Tensor:
    """Entries of a (H, W) map at equal vertical and horizontal frequency, from zero up: (F,).

    Where H and W differ, the longer axis gives its nearest frequency.
    """
    height, width = amplitudes.shape
    fractions = torch.from_numpy(diagonal_frequencies((height, width)) / 2)
    rows, columns = ((fractions * side).round().long() for side in (height, width))
    return amplitudes[rows, columns]


def relative_log_amplitude(features: Tensor) -> Tensor:
    """The diagonal of ``log_amplitude_map``, less its entry at zero frequency: (F,)."""
    curve = diagonal(log_amplitude_map(features))
    return curve - curve[0]


def radial_frequency(size: tuple[int, int]) -> Tensor:
    """(H, W) distance of every entry of an FFT from zero frequency, from 0 to √2 (times π)."""
    rows, columns = (2 * torch.fft.fftfreq(side, dtype=torch.float64) for side in size)
    return torch.hypot(rows[:, None], columns[None, :])


def ring_frequencies(size: tuple[int, int]) -> np.ndarray:
    """(F,) fractions of π in the middle of the rings of ``ring_means``, from 0 to at most 1."""
    side = min(size)
    return 2 * np.arange(side // 2 + 1) / side


def ring_means(amplitudes: Tensor) -> Tensor:
    """Mean of a (..., H, W) map, not shifted, over rings of equal frequency: (..., F).

    A ring is as wide as one frequency of the shorter side. What is beyond the last ring, in the
    corners of the spectrum, is in none.
    """
    height, width = amplitudes.shape[-2:]
    side = min(height, width)
    ring = (radial_frequency((height, width)) * side / 2).round().long().flatten()
    num_rings = side // 2 + 1
    inside = ring < num_rings
    member = torch.nn.functional.one_hot(ring[inside], num_rings).to(amplitudes)
    return amplitudes.flatten(-2)[..., inside.to(amplitudes.device)] @ (member / member.sum(dim=0))
