"""Where the parts of one network lie, and what they depend on."""

import zlib
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
    shown = zlib.crc32('\n'.join(images.names).encode())
    common = dict(weights=subject.fingerprint(), images=f'{len(images)} ({shown:08x})')
    return PartStore(folder / quote(subject.label, safe=' ()'), {**common, **settings})
