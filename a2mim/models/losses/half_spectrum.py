"""Half spectra: what a real image needs of its Fourier transform, and sums over the rest.

Axes: (H, W) pixels, W' = W // 2 + 1 columns of the half spectrum. The transform of a real image is
Hermitian: column k and column W - k hold conjugate numbers, so one of each pair is computed.
"""

import torch
from torch import Tensor


def half_spectrum(image: Tensor) -> Tensor:
    """Orthonormal transform over the last two axes, (..., H, W) real to (..., H, W') complex."""
    return torch.fft.rfft2(image, norm='ortho')


def mean_over_spectrum(values: Tensor, width: int) -> Tensor:
    """Mean of ``values`` (..., H, W') over the full spectrum, ``width`` = W columns wide.

    ``values`` must be equal at conjugate frequencies, as is all that depends on the modulus.
    """
    columns = values.sum(dim=tuple(range(values.ndim - 1)))
    # Columns 1 … ceil(W / 2) - 1 have a conjugate; column 0 and, for even W, column W / 2 do not.
    total = columns.sum() + columns[1 : (width + 1) // 2].sum()
    return total / (values.shape[:-1].numel() * width)
