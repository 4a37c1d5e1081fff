"""A long measurement in parts, each on the disk once it is done, so that it can be interrupted."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from a2mim.version import __version__
from a2mim.weights.files import remove_partials, write_atomically

SETTINGS = 'settings.json'


class PartStore:
    """Arrays by the name of a part, in a folder of its own for every measurement.

    Args:
        folder: Of all measurements; created where it is missing.
        label: Of what is measured, the first part of the folder's name.
        settings: Everything that the arrays depend on, as JSON takes it: seeds, numbers, the
            fingerprint of the network. The folder's name changes with them, and with the version
            of this package.

    Attributes:
        folder: Of this measurement.
    """

    def __init__(self, folder: Path, label: str, settings: Mapping[str, object]) -> None:
        everything = {'version': __version__, **settings}
        text = json.dumps(everything, indent=2, sort_keys=True) + '\n'
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder = folder / f'{quote(label, safe=" ()")}-{key}'
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.folder)
        write_atomically(self.folder / SETTINGS, lambda file: file.write(text.encode()))

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
