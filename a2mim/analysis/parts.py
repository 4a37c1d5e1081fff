"""A long measurement in parts, each on the disk once it is done, so that it can be interrupted."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from a2mim.checkpoint.atomic_file import remove_partials, write_atomically

SETTINGS = 'settings.json'


class PartStore:
    """Arrays by the name of a part, in a folder that belongs to one measurement.

    Args:
        folder: Where the parts go; created where it is missing.
        settings: Everything that the arrays depend on, as JSON takes it: seeds, numbers, the
            fingerprint of the network.

    Raises:
        ValueError: If the folder holds parts of a measurement with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials(folder)
        # As JSON reads it again: tuples are lists there.
        wanted = json.loads(json.dumps(dict(settings)))
        path = folder / SETTINGS
        if path.is_file():
            found = json.loads(path.read_text(encoding='utf-8'))
            other = [key for key in found | wanted if found.get(key) != wanted.get(key)]
            if other:
                key = other[0]
                raise ValueError(
                    f'{folder} holds parts of a measurement with {key}={found.get(key)!r}, not '
                    f'{wanted.get(key)!r}; give another --out, or remove the folder'
                )
            return
        text = json.dumps(wanted, indent=2) + '\n'
        write_atomically(path, lambda file: file.write(text.encode()))

    def compute(
        self, name: str, measure: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of part ``name``: from the disk, or from ``measure`` and then on the disk."""
        path = self.folder / f'{name}.npz'
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    return {key: stored[key] for key in stored.files}
            except (zipfile.BadZipFile, ValueError, EOFError, OSError):
                path.unlink()  # damaged after it was written; it is measured again
        arrays = dict(measure())
        write_atomically(path, lambda file: file.write(_packed(arrays)))
        return arrays


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
