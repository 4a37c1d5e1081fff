"""Small labelled subsets, the same in every run."""

import numpy as np


def spread_over_classes(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Pick ``per_class`` images of each class, evenly spaced over those it has.

    Neighbours in a source are often alike (frames of a film, patches of a photograph), so the
    first few would show less than the class has to show.

    Args:
        labels: (N,), class of each image.
        per_class: Images to keep of each class.

    Returns:
        Ascending indices into ``labels``.

    Raises:
        ValueError: If a class has fewer images, or ``per_class`` is not positive.
    """
    if per_class < 1:
        raise ValueError(f'labels_per_class={per_class} must be at least 1, or None for all')
    by_class = np.argsort(labels, kind='stable')
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=per_class) < per_class:
        scarce = counts.argmin()
        raise ValueError(
            f'labels_per_class={per_class} is more than the {counts[scarce]} images of class '
            f'{classes[scarce]}'
        )
    within = ((np.arange(per_class) + 0.5) * counts[:, None] / per_class).astype(np.int64)
    starts = np.cumsum(counts) - counts
    return np.sort(by_class[(starts[:, None] + within).ravel()])
