"""Networks seen through frequencies: their features, their input, what they draw.

    python analysis_tools/fourier_analysis/fourier_analysis.py --exp-name MODE NETWORK... [options]

MODE is fourier (log amplitudes of features over depth) or variance (spatial variance over depth),
for any networks; reconstruction (spectra of hidden blocks against the image),
for checkpoints of pre-training; filter or noise (top-1 accuracy of classifiers, or error of
reconstructions, when frequencies of the input are removed or noisy). Results go to DIR/MODE. The
same command again continues what was interrupted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a2mim.analysis import add_analysis_options, open_images, open_results, open_subjects
from a2mim.analysis.spectra import (
    Corruption,
    corruption_scores,
    draw_depth_curves,
    draw_high_frequencies,
    draw_reconstructions,
    draw_scores,
    draw_variance,
    feature_spectra,
    filters,
    metric_of,
    noises,
    reconstruction_spectra,
)
from a2mim.engine.command_line import one_line_errors

CUTOFFS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1, 1.3)
Rows = list[dict[str, object]]


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--exp-name', '--exp_name', choices=MODES, default='fourier', help='MODE')
    add_analysis_options(parser, out='work_dirs/analysis/fourier', num_images=56)
    parser.add_argument(
        '--cutoffs',
        type=float,
        nargs='+',
        default=CUTOFFS,
        metavar='F',
        help='of filters, in π per pixel, 0 to 1.414',
    )
    parser.add_argument('--bands', type=int, default=8, metavar='N', help='of noise, 0 to √2 π')
    parser.add_argument(
        '--noise-rms', type=float, default=0.5, metavar='X', help='in standard deviations of pixels'
    )
    return parser.parse_args(args)


def run_features(args: argparse.Namespace) -> Rows:
    """Fourier or variance: features over depth."""
    found = feature_spectra(
        open_subjects(args), open_images(args), folder=args.parts, batch_size=args.batch_size
    )
    results = open_results(args, f'Features over depth: {args.exp_name}')
    if args.exp_name == 'fourier':
        results.add_figure(
            draw_depth_curves(found),
            'fft_features',
            'Relative log amplitude (natural log) of features by frequency, one curve a depth.',
        )
        figure, name = draw_high_frequencies(found), 'high_freq_fft_features'
        caption = 'Relative log amplitude at the highest frequency of the diagonal, by depth.'
    else:
        figure, name = draw_variance(found), 'variance_features'
        caption = 'Spatial variance of features by depth.'
    results.add_figure(
        figure, name, f'{caption} Grey: the first network pools, or attention works.'
    )
    rows, arrays = [], {}
    for number, (label, one) in enumerate(found.items()):
        high = one.high_frequencies()
        for index, latent in enumerate(one.names):
            place = dict(network=label, latent=latent, kind=one.kinds[index])
            place |= dict(depth=one.depths[index], height=one.sizes[index][0])
            place |= dict(frequency=one.frequencies(index)[-1], high_frequency=high[index])
            rows.append(place | dict(variance=one.variances[index]))
            arrays[f'{number}_{index}_{latent}'] = one.curves[index]
    results.add_arrays('curves', networks=np.array(list(found)), **arrays)
    results.add_table(rows, args.exp_name, 'Features at every depth; frequencies in π.')
    results.finish()
    return rows


def run_reconstruction(args: argparse.Namespace) -> Rows:
    """Spectra of hidden blocks against those of the image."""
    options = dict(folder=args.parts, seed=args.seed, batch_size=args.batch_size)
    found = reconstruction_spectra(open_subjects(args), open_images(args), **options)
    results = open_results(args, 'Frequencies of reconstructions')
    caption = 'Radially averaged log amplitude in hidden blocks, and the ratio to the image.'
    results.add_figure(draw_reconstructions(found), 'reconstruction', caption)
    rows = [
        dict(network=label, frequency=f, target=t, reconstruction=r, ratio=q)
        for label, one in found.items()
        for f, t, r, q in zip(
            one.frequencies, one.target, one.reconstruction, one.ratio, strict=True
        )
    ]
    results.add_table(rows, 'reconstruction', f'{caption} Frequencies in π per pixel.')
    results.finish()
    return rows


def run_filter(args: argparse.Namespace) -> Rows:
    """Scores when frequencies of the input are removed."""
    settings = dict(mode='filter')
    return run_corruption(args, filters(args.cutoffs), settings, 'cut-off frequency (π per pixel)')


def run_noise(args: argparse.Namespace) -> Rows:
    """Scores when a band of the input is noisy."""
    settings = dict(mode='noise', bands=args.bands, rms=args.noise_rms)
    corruptions = noises(args.bands, args.noise_rms, args.seed)
    return run_corruption(args, corruptions, settings, 'centre of the noisy band (π per pixel)')


def run_corruption(
    args: argparse.Namespace, corruptions: Sequence[Corruption], settings: dict, xlabel: str
) -> Rows:
    """Scores with and without ``corruptions``."""
    subjects = open_subjects(args)
    labelled = any(subject.num_classes for subject in subjects)
    images = open_images(args, labelled=labelled)
    metric = metric_of(subjects, images)
    options = dict(folder=args.parts, seed=args.seed, batch_size=args.batch_size)
    scores = corruption_scores(subjects, images, corruptions, **options, **settings)
    results = open_results(args, f'Scores by frequency: {args.exp_name}', **settings)
    caption = f'{metric} by {xlabel}; dotted: clean images.'
    results.add_figure(draw_scores(scores, corruptions, metric, xlabel), args.exp_name, caption)
    points = [('clean', None), *((one.curve, one.frequency) for one in corruptions)]
    rows = [
        dict(network=label, input=curve, frequency=frequency, score=score)
        for label, values in scores.items()
        for (curve, frequency), score in zip(points, values.tolist(), strict=True)
    ]
    results.add_table(rows, args.exp_name, caption)
    results.finish()
    return rows


MODES = {
    'fourier': run_features,
    'variance': run_features,
    'reconstruction': run_reconstruction,
    'filter': run_filter,
    'noise': run_noise,
}


def main(args: argparse.Namespace) -> None:
    """Measure, and print the table."""
    # Both of these look at the same features, which are read once.
    kind = 'features' if MODES[args.exp_name] is run_features else args.exp_name
    args.parts = Path(args.out) / 'parts' / kind
    args.out = str(Path(args.out) / args.exp_name)
    rows = MODES[args.exp_name](args)
    print('  '.join(rows[0]))
    for row in rows:
        values = row.values()
        print('  '.join(f'{v:.4f}' if isinstance(v, float) else str(v) for v in values))
    print(f'written to {args.out}')


if __name__ == '__main__':
    with one_line_errors():
        main(parse_args())
