"""Whether images have the labels that a classifier can be judged by."""

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.subject import Subject


def check_labels(subject: Subject, images: AnalysisImages) -> None:
    """Refuse images without labels, or of other classes.

    Raises:
        ValueError: If there are no labels, or their classes are not as many as the network's.
    """
    if images.labels is None:
        raise ValueError(
            'accuracy needs labels: give a folder with one folder of images for each class, and '
            '--labelled where the tool has it'
        )
    if len(images.classes) != subject.num_classes:
        raise ValueError(
            f'{subject.label} tells {subject.num_classes} classes apart, the images have '
            f'{len(images.classes)}; give the classes that it was trained on'
        )
