"""Where the parts of one network lie, and what they depend on."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.parts import PartStore
from a2mim.analysis.subject import Subject


def open_store(
    folder: Path, subject: Subject, images: AnalysisImages, **settings: object
) -> PartStore:
    """The parts of ``subject`` in a folder of its own.

    Raises:
        ValueError: If parts of other weights, images or settings are there.
    """
    whole = subject if subject.whole is None else replace(subject, model=subject.whole)
    shown = zlib.crc32('\n'.join(images.names).encode())
    common = dict(weights=whole.fingerprint(), images=f'{len(images)} ({shown:08x})')
    return PartStore(folder / quote(subject.label, safe=' ()'), {**common, **settings})


def batches(images: AnalysisImages, batch_size: int) -> Iterator[tuple[int, int]]:
    """Start and end of every batch.

    Raises:
        ValueError: If ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size} must be 1 or more')
    starts = range(0, len(images), batch_size)
    return ((start, min(start + batch_size, len(images))) for start in starts)
