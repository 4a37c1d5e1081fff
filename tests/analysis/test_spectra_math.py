import math

import numpy as np
import pytest
import torch

from a2mim.analysis.frequency_corruption import band_noise, high_pass, low_pass
from a2mim.analysis.spectra import (
    diagonal,
    diagonal_frequencies,
    log_amplitude_map,
    radial_frequency,
    ring_frequencies,
    ring_means,
    spatial_variance,
)


def golden_features(side):
    b, c, i, j = np.ogrid[:2, :3, :side, :side]
    wave = np.sin(0.3 * i * (1 + 0.1 * c) + 0.7 * j + 0.5 * c + 0.2 * b)
    return torch.from_numpy(wave + 0.1 * np.cos(2.1 * i * j))


@pytest.mark.parametrize(
    'side, curve, variance',
    [
        (
            14,
            [0, 3.14638633, 1.82400168, 0.14151939, -0.39196648, -0.39303768, -1.71645186],
            0.5087068830,
        ),
        (7, [0, 1.04488220, -1.03457232, -2.61368050], 0.5235277692),
    ],
)
def test_curve_and_variance_are_those_of_the_published_tool(side, curve, variance):
    features = golden_features(side)
    found = diagonal(log_amplitude_map(features))
    np.testing.assert_allclose(found - found[0], curve, atol=1e-7)
    assert spatial_variance(features).item() == pytest.approx(variance, abs=1e-9)


def test_frequencies_say_where_an_even_grid_ends():
    np.testing.assert_allclose(diagonal_frequencies((14, 14)), np.arange(7) / 7)
    np.testing.assert_allclose(diagonal_frequencies((7, 7)), 2 * np.arange(4) / 7)


@pytest.mark.parametrize('size', [(12, 12), (12, 24)])
def test_a_diagonal_wave_stands_out_at_its_frequency_on_the_diagonal(size):
    i, j = torch.meshgrid(*(torch.arange(s, dtype=torch.float64) for s in size), indexing='ij')
    wave = torch.cos(math.pi * (i + j) / 2)[None, None]
    curve = diagonal(log_amplitude_map(wave))
    assert diagonal_frequencies(size)[curve.argmax()] == pytest.approx(0.5)


@pytest.mark.parametrize('k', [1, 3, 8])
def test_a_wave_stands_out_in_the_ring_of_its_frequency(k):
    j = torch.arange(16, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * k * j / 16).expand(1, 1, 16, 16)
    rings = ring_means(log_amplitude_map(wave))
    assert rings.argmax() == k
    assert ring_frequencies((16, 16))[k] == pytest.approx(k / 8)


def test_white_noise_is_flat():
    noise = torch.randn(200, 2, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    amplitudes = log_amplitude_map(noise)
    # |FFT|² is n² times a standard exponential variable, whose log has mean -γ, variance π²/6; the
    # four entries that are their own conjugates follow another law.
    ours = amplitudes.clone()
    for row in (0, 8):
        for column in (0, 8):
            ours[row, column] = math.log(16) - np.euler_gamma / 2
    error = math.pi / math.sqrt(24) / math.sqrt(400)
    assert (ours - (math.log(16) - np.euler_gamma / 2)).abs().max() < 5 * error


@pytest.mark.parametrize('cutoff', [0, 0.3, 1.0, math.sqrt(2)])
@pytest.mark.parametrize('size', [(8, 8), (7, 10)])
def test_what_the_filters_keep_adds_up(cutoff, size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    low, high = low_pass(images, cutoff), high_pass(images, cutoff)
    torch.testing.assert_close(low + high, images)
    # Parseval: parts without a common frequency are orthogonal.
    assert (low * high).sum().abs() < 1e-9
    power = torch.fft.fft2(low).abs().square()
    assert power[..., radial_frequency(size) > cutoff].sum() < 1e-18
    torch.testing.assert_close(power.sum() / math.prod(size), low.square().sum())


def test_low_pass_passes_low_waves_and_stops_high_ones():
    j = torch.arange(16, dtype=torch.float64)
    slow, fast = (torch.cos(math.pi * f * j).expand(1, 1, 16, 16) for f in (0.25, 0.75))
    torch.testing.assert_close(low_pass(slow + fast, 0.5), slow)
    torch.testing.assert_close(high_pass(slow + fast, 0.5), fast.contiguous())


def test_band_noise_has_its_strength_and_no_other_frequency():
    generator = torch.Generator().manual_seed(0)
    noise = band_noise((3, 2, 16, 16), (0.4, 0.7), rms=0.3, generator=generator)
    torch.testing.assert_close(noise.square().mean(dim=(1, 2, 3)).sqrt(), torch.full((3,), 0.3))
    amplitude = torch.fft.fft2(noise.double()).abs()
    radius = radial_frequency((16, 16))
    outside = (radius < 0.4) | (radius >= 0.7)
    assert amplitude[..., outside].max() < 1e-4 < amplitude[..., ~outside].mean()


@pytest.mark.parametrize('cutoff', [-0.1, 1.5, math.nan])
def test_a_frequency_that_no_image_has_is_refused(cutoff):
    with pytest.raises(ValueError, match=r'out of range; give 0 to 1\.414'):
        low_pass(torch.zeros(1, 1, 4, 4), cutoff)


def test_a_band_without_a_frequency_is_refused():
    with pytest.raises(ValueError, match='no frequency of 4×4 pixels'):
        band_noise((1, 1, 4, 4), (0.1, 0.2), rms=1.0, generator=torch.Generator())
