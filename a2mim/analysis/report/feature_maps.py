"""Feature maps over depth: their frequencies and their spatial variance."""

from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.results import Results
from a2mim.analysis.spectra import (
    draw_depth_curves,
    draw_high_frequencies,
    draw_variance,
    feature_spectra,
)


def add_feature_spectra(compared: Comparison, results: Results) -> None:
    """Log amplitudes and variance of feature maps over depth."""
    found = feature_spectra(
        compared.subjects,
        compared.spectrum_images,
        folder=results.folder / 'parts',
        batch_size=compared.batch_size,
    )
    grey = ' Grey: the first network pools, or attention works.'
    results.add_figure(
        draw_depth_curves(found),
        'log_amplitude',
        'Relative log amplitude (natural log) of features by frequency, one curve a depth.',
    )
    caption = f'Relative log amplitude at the highest frequency of the diagonal, by depth.{grey}'
    results.add_figure(draw_high_frequencies(found), 'high_frequency', caption)
    results.add_figure(draw_variance(found), 'variance', f'Spatial variance by depth.{grey}')
    rows = [
        dict(network=label, latent=name, depth=depth, high_frequency=high, variance=variance)
        for label, one in found.items()
        for name, depth, high, variance in zip(
            one.names, one.depths, one.high_frequencies(), one.variances, strict=True
        )
    ]
    results.add_table(rows, 'features', 'Features at every depth.')
