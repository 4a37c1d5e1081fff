"""Half spectra stand for the full ones."""

import pytest
import torch

from a2mim.models.spectral_losses import half_spectrum, mean_over_spectrum


@pytest.mark.parametrize('width', [1, 2, 3, 4, 7, 8])
def test_mean_over_the_half_is_the_mean_over_the_whole(width):
    image = torch.randn(2, 3, 5, width, dtype=torch.float64)
    full = torch.fft.fft2(image, norm='ortho').abs() ** 1.5
    half = half_spectrum(image).abs() ** 1.5
    torch.testing.assert_close(mean_over_spectrum(half, width), full.mean())
