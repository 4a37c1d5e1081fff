"""Images in patches: how these interact, and what is known without some or in another order."""

from collections.abc import Sequence
from math import gcd

import numpy as np

from a2mim.analysis.interactions import (
    InteractionSettings,
    draw_interactions,
    estimate_rows,
    measure_interactions,
)
from a2mim.analysis.report.comparison import Comparison
from a2mim.analysis.results import Results
from a2mim.analysis.robustness import (
    check_measure,
    choose_measure,
    draw_robustness,
    occlusion_levels,
    robustness_curves,
    shuffle_levels,
)
from a2mim.analysis.subject import Subject

RATIOS = (0.05, 0.3, 0.5, 0.7, 0.95)  # orders of interactions
FINEST = 8  # cells along a side, at most
OCCLUDED = (0.0, 0.25, 0.5, 0.75, 0.9)


def add_interactions(compared: Comparison, results: Results) -> None:
    """Strength of interactions of neighbouring patches by the size of their context."""
    effort = compared.effort
    settings = InteractionSettings(
        grid=common_grid(compared.subjects),
        pairs=effort.pairs,
        contexts=effort.contexts,
        ratios=RATIOS,
        seed=compared.seed,
        batch_size=max(4, compared.batch_size),
    )
    number = compared.number(effort.interaction_images)
    images = compared.open_images(number)
    found = measure_interactions(compared.subjects, images, settings, results.folder / 'parts')
    caption = (
        f'Relative strength J of interactions between neighbouring patches (dimensionless, mean '
        f'over orders 1) by the size of their context; bands: 95 % bootstrap intervals over '
        f'{number} images and {effort.pairs} pairs; {effort.contexts} contexts.'
    )
    outputs = ', '.join(f'{one.output} of {label}' for label, one in found.items())
    caption += f' What interacts: {outputs}.'
    if still := [label for label, one in found.items() if np.isnan(one.estimate.relative).all()]:
        caption += f' No curve, since nothing interacts beyond rounding: {", ".join(still)}.'
    estimates = {label: one.estimate for label, one in found.items()}
    players = settings.grid**2
    figure = draw_interactions(estimates, settings.orders, players)
    results.add_figure(figure, 'interactions', caption)
    rows = [
        dict(network=label, output=one.output, **row)
        for label, one in found.items()
        for row in estimate_rows(one.estimate, settings.orders, players)
    ]
    results.add_table(rows, 'interactions', 'Strength by order; output: what interacts.')


def add_robustness(compared: Comparison, results: Results) -> None:
    """Occluded and shuffled images: accuracy of classifiers of these classes, else similarity."""
    images, grid = compared.spectrum_images, common_grid(compared.subjects)
    measure = choose_measure(compared.subjects)
    try:
        check_measure(compared.subjects, images, measure)
    except ValueError:
        measure = 'similarity'  # classifiers, but of other classes than these images have
    shuffled = [side for side in (1, 2, 4, 8) if grid % side == 0]
    studies = {
        'occlusion': (
            occlusion_levels(OCCLUDED, grid),
            f'share of dropped patches of {grid}×{grid}',
        ),
        'shuffle': (shuffle_levels(shuffled), 'patches along a side'),
    }
    rows = []
    for study, (levels, axis) in studies.items():
        curves = {
            subject.label: robustness_curves(
                subject,
                images,
                levels,
                measure,
                results.folder / 'parts' / study,
                dict(grid=grid),
                batch_size=compared.batch_size,
                seed=compared.seed,
            )
            for subject in compared.subjects
        }
        unit = 'Top-1 accuracy in %' if measure == 'accuracy' else 'Cosine similarity of features'
        caption = f'{unit} by {axis}, mean of {len(images)} images.'
        results.add_figure(draw_robustness(curves, axis, measure), study, caption)
        rows += [
            dict(network=label, change=name, value=value, score=float(score.mean()))
            for label, own in curves.items()
            for name, (values, scores) in own.items()
            for value, score in zip(values.tolist(), scores, strict=True)
        ]
    results.add_table(rows, 'robustness', f'{measure.capitalize()} by change.')


def common_grid(subjects: Sequence[Subject]) -> int:
    """The most cells along a side, at most ``FINEST``, that divide the images of all networks."""
    side = gcd(*(side for subject in subjects for side in subject.image_size))
    return max(cells for cells in range(1, FINEST + 1) if side % cells == 0)
