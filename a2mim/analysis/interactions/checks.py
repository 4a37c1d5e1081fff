"""Whether networks, images and settings fit each other, before anything is measured."""

from collections.abc import Sequence

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.interactions.outputs import choose_output
from a2mim.analysis.interactions.settings import InteractionSettings
from a2mim.analysis.subject import Subject


def check_subjects(
    subjects: Sequence[Subject], images: AnalysisImages, settings: InteractionSettings
) -> None:
    """Refuse what could only fail after a while.

    Raises:
        ValueError: If the grid does not divide an image, there are fewer than two images, or a
            network lacks the output or the classes.
    """
    if len(images) < 2:
        raise ValueError(f'{len(images)} image: confidence intervals need at least 2 --num-images')
    for subject in subjects:
        choose_output(subject, settings.output)
        use_labels(subject, images, settings)
        for side in subject.image_size:
            if side % settings.grid:
                fits = [g for g in range(2, side + 1) if side % g == 0]
                raise ValueError(
                    f'grid={settings.grid} does not divide the {side} pixels of '
                    f'{subject.label}; grids that do are {", ".join(map(str, fits))}'
                )


def use_labels(subject: Subject, images: AnalysisImages, settings: InteractionSettings) -> bool:
    """Whether v is that of the label, not of the predicted class.

    Raises:
        ValueError: If labels are needed and there are none that fit.
    """
    fit = images.labels is not None and len(images.classes) == subject.num_classes > 0
    needed = settings.target == 'label' or settings.correct_only
    if needed and not fit:
        raise ValueError(
            f'{subject.label} has {subject.num_classes} classes, the images '
            f'{len(images.classes)}: labels cannot be used; take --target predicted without '
            '--correct-only'
        )
    return settings.correct_only or (fit and settings.target != 'predicted')
