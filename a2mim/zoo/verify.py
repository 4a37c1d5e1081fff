"""Is a file still the one that it should be?

Where its published hash is not known, the hash that it had when it was first seen is noted beside
it in ``NAME.sha256``, in the format of ``sha256sum``, so that a later change is noticed.
"""

import hashlib
from pathlib import Path

from mmengine.logging import print_log

CHUNK = 1 << 20


def verify(path: Path, size: int | None = None, sha256: str | None = None) -> None:
    """Compare ``path`` with what is published of it, or else with what was noted of it.

    Raises:
        ValueError: If it differs.
    """
    record = Path(f'{path}.sha256')
    if sha256 is not None or not record.exists():
        found = check_file(path, size, sha256)
    else:
        noted = record.read_text(encoding='utf-8').split()[0]
        try:
            found = check_file(path, size, noted)
        except ValueError as error:
            raise ValueError(
                f'{error}, the hash noted in {record} when it was first used (if the change was '
                'meant, delete that note)'
            ) from error
    if sha256 is None and not record.exists():
        record.write_text(f'{found}  {path.name}\n', encoding='utf-8')
        print_log(
            f'{path.name} could not be verified, since its published SHA-256 is not known. It has '
            f'{found}; noted in {record}, so that a later change is noticed',
            logger='current',
        )


def check_file(path: Path, size: int | None, sha256: str | None) -> str:
    """SHA-256 of ``path``, hexadecimal.

    Raises:
        ValueError: If size or hash is not the expected one; None expects nothing.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise ValueError(f'{path} has {found_size} bytes, expected {size}')
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if sha256 is not None and digest.hexdigest() != sha256:
        raise ValueError(f'{path} has SHA-256 {digest.hexdigest()}, expected {sha256}')
    return digest.hexdigest()
