"""Frequencies of networks: in their features, their input and their reconstructions.

    python analysis_tools/fourier_analysis/fourier_analysis.py --exp-name MODE NETWORK... [options]

MODE is fourier (log amplitudes of features over depth) or variance (spatial variance over depth),
for any networks; reconstruction (spectra of masked blocks compared with the image), for checkpoints
of pre-training; filter or noise (top-1 accuracy of classifiers, or error of reconstructions, when
frequencies of the input are removed or noisy). Results go to DIR/MODE. The same command resumes an
interrupted measurement.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a2mim.analysis import add_analysis_options, open_images, open_networks, open_results, spectra
from a2mim.analysis import frequency_corruption as corruption
from a2mim.engine.command_line import one_line_errors

CUTOFFS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1, 1.3)
MODES = ('fourier', 'variance', 'reconstruction', 'filter', 'noise')
GREY = 'Grey: pooling of the first network, or attention.'
Rows = list[dict[str, object]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--exp-name', '--exp_name', choices=MODES, default='fourier', help='MODE')
    add_analysis_options(parser, out='work_dirs/analysis/fourier', num_images=56)
    cutoffs = 'of filters, in π per pixel, 0 to 1.414'
    add('--cutoffs', type=float, nargs='+', default=CUTOFFS, metavar='F', help=cutoffs)
    add('--bands', type=int, default=8, metavar='N', help='of noise, 0 to √2 π')
    rms = 'in standard deviations of pixels'
    add('--noise-rms', type=float, default=0.5, metavar='X', help=rms)
    return parser.parse_args(argv)


def run_features(args: argparse.Namespace, parts: Path) -> Rows:
    """Measure features over depth, for fourier or variance."""
    options = dict(folder=parts / 'features', batch_size=args.batch_size)
    found = spectra.feature_spectra(open_networks(args), open_images(args), **options)
    results = open_results(args, f'Features over depth: {args.exp_name}')
    if args.exp_name == 'fourier':
        caption = (
            'Relative log amplitude (natural log) of features by frequency, one curve a depth.'
        )
        results.add_figure(spectra.draw_depth_curves(found), 'fft_features', caption)
        caption = f'Relative log amplitude at the highest frequency of the diagonal. {GREY}'
        figure = spectra.draw_high_frequencies(found)
        results.add_figure(figure, 'high_freq_fft_features', caption)
    else:
        caption = f'Spatial variance of features by depth. {GREY}'
        results.add_figure(spectra.draw_variance(found), 'variance_features', caption)
    curves = {
        f'{number}_{index}_{name}': one.curves[index]
        for number, one in enumerate(found.values())
        for index, name in enumerate(one.names)
    }
    results.add_arrays('curves', networks=np.array(list(found)), **curves)
    rows = spectra.feature_rows(found)
    results.add_table(rows, args.exp_name, 'Features at every depth; frequencies in π.')
    results.finish()
    return rows


def run_reconstruction(args: argparse.Namespace, parts: Path) -> Rows:
    """Measure spectra of masked blocks and of the image."""
    options = dict(folder=parts / args.exp_name, seed=args.seed, batch_size=args.batch_size)
    found = spectra.reconstruction_spectra(open_networks(args), open_images(args), **options)
    results = open_results(args, 'Frequencies of reconstructions')
    caption = 'Radially averaged log amplitude in masked blocks, and the ratio to the image.'
    results.add_figure(spectra.draw_reconstructions(found), 'reconstruction', caption)
    rows = spectra.ratio_rows(found)
    results.add_table(rows, 'reconstruction', f'{caption} Frequencies in π per pixel.')
    results.finish()
    return rows


def run_corruption(args: argparse.Namespace, parts: Path) -> Rows:
    """Measure scores when frequencies of the input are removed (filter) or noisy (noise)."""
    settings: dict[str, object] = dict(mode=args.exp_name)
    if args.exp_name == 'filter':
        corruptions = corruption.filters(args.cutoffs)
        xlabel = 'cut-off frequency (π per pixel)'
    else:
        settings |= dict(bands=args.bands, rms=args.noise_rms)
        corruptions = corruption.noises(args.bands, args.noise_rms, args.seed)
        xlabel = 'centre of the noisy band (π per pixel)'
    networks = open_networks(args)
    images = open_images(args, labelled=any(network.num_classes for network in networks))
    metric = corruption.metric_of(networks, images)
    options = dict(folder=parts / args.exp_name, seed=args.seed, batch_size=args.batch_size)
    scores = corruption.corruption_scores(networks, images, corruptions, **options, **settings)
    results = open_results(args, f'Scores by frequency: {args.exp_name}', **settings)
    caption = f'{metric} by {xlabel}; dotted: clean images.'
    figure = corruption.draw_scores(scores, corruptions, metric, xlabel)
    results.add_figure(figure, args.exp_name, caption)
    rows = corruption.score_rows(scores, corruptions)
    results.add_table(rows, args.exp_name, caption)
    results.finish()
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    run = dict(reconstruction=run_reconstruction, filter=run_corruption, noise=run_corruption)
    parts = Path(args.out) / 'parts'  # features are read once for fourier and variance
    args.out = str(Path(args.out) / args.exp_name)
    with one_line_errors():
        rows = run.get(args.exp_name, run_features)(args, parts)
        print('  '.join(rows[0]))
        for row in rows:
            values = row.values()
            print('  '.join(f'{v:.4f}' if isinstance(v, float) else str(v) for v in values))
        print(f'written to {args.out}')


if __name__ == '__main__':
    main()
