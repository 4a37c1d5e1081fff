"""Networks seen through frequencies: of their features, of their input, of what they draw."""

from a2mim.analysis.spectra.corruption import Corruption, corruption_scores, filters, noises
from a2mim.analysis.spectra.draw import (
    draw_depth_curves,
    draw_high_frequencies,
    draw_reconstructions,
    draw_scores,
    draw_variance,
)
from a2mim.analysis.spectra.features import FeatureSpectra, feature_spectra
from a2mim.analysis.spectra.reconstructions import ReconstructionSpectra, reconstruction_spectra

__all__ = [
    'Corruption',
    'FeatureSpectra',
    'ReconstructionSpectra',
    'corruption_scores',
    'draw_depth_curves',
    'draw_high_frequencies',
    'draw_reconstructions',
    'draw_scores',
    'draw_variance',
    'feature_spectra',
    'filters',
    'noises',
    'reconstruction_spectra',
]
