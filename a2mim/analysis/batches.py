"""A measurement batch by batch, with a bar, each batch on the disk once it is measured.

Axes: B batch, C channels, (H, W) pixels.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.progress import progress
from a2mim.analysis.store import open_store
from a2mim.analysis.subject import Subject


def measured_batches(
    subject: Subject,
    images: AnalysisImages,
    measure: Callable[[Tensor, range], Mapping[str, np.ndarray]],
    *,
    folder: Path | None,
    batch_size: int,
    **settings: object,
) -> Iterator[tuple[range, Mapping[str, np.ndarray]]]:
    """What ``measure`` says of every batch, and which images are in it.

    Args:
        subject: It normalises the images and has their size.
        images: All of them are measured.
        measure: Gets normalised images (B, C, H, W) and their numbers.
        folder: Keeps every batch, so that a call with the same arguments goes on from an earlier
            one; None: nothing is kept.
        batch_size: Images in a forward pass.
        settings: What else the numbers depend on.

    Raises:
        ValueError: See ``AnalysisImages.spans``.
    """
    store = None if folder is None else open_store(folder, subject, images, **settings)
    spans = list(images.spans(batch_size))
    for start, stop in progress(spans, subject.label):

        def part(start: int = start, stop: int = stop) -> Mapping[str, np.ndarray]:
            pixels = images.pixels(subject.image_size, start, stop)
            return measure(subject.normalise(pixels), range(start, stop))

        name = f'images_{start}_{stop}'
        yield range(start, stop), part() if store is None else store.compute(name, part)
