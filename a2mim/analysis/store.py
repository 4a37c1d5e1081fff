"""Where the parts of one network lie, and what they depend on."""

import zlib
from pathlib import Path

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.parts import PartStore
from a2mim.analysis.subject import Subject


def open_store(
    folder: Path, subject: Subject, images: AnalysisImages, **settings: object
) -> PartStore:
    """The parts of ``subject``; those of other weights, images or settings lie beside them."""
    shown = zlib.crc32('\n'.join(images.names).encode())
    common = dict(weights=subject.fingerprint(), images=f'{len(images)} ({shown:08x})')
    return PartStore(folder, subject.label, {**common, **settings})
