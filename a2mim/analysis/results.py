"""Files of a measurement: figures as PNG and PDF, tables as CSV, arrays as NPZ, and an index.

The index ``result.json`` names them with their captions; ``tools/analysis_tools/report.py`` reads
it. ``PartStore`` saves a long measurement in parts, so that an interrupted one resumes.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from mmengine.dist import is_main_process
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from a2mim.version import __version__
from a2mim.weights.files import remove_partials, write_atomically

INDEX = 'result.json'
DPI = 150
SUFFIXES = ('.png', '.pdf')
SETTINGS = 'settings.json'
T = TypeVar('T')


class Results:
    """The folder of one measurement, created if missing.

    Args:
        folder: Of the files.
        title: Heading of the section in a report.
        settings: Everything that it was measured with, JSON-serializable.
    """

    def __init__(self, folder: str | Path, title: str, settings: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._head = dict(title=title, version=__version__, settings=dict(settings))
        self._figures: list[dict[str, str]] = []
        self._tables: list[dict[str, str]] = []

    def add_figure(self, figure: Figure, name: str, caption: str) -> None:
        """Write ``name.png`` and ``name.pdf``; the caption describes the content and its units."""
        self._begin()
        save_figure(figure, self.folder / name)
        self._figures.append(dict(file=f'{name}.png', caption=caption))

    def add_table(self, rows: Sequence[Mapping[str, object]], name: str, caption: str) -> None:
        """Write ``name.csv``, one column for each key of the first row."""
        self._begin()
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        self._write(f'{name}.csv', text.getvalue().encode())
        self._tables.append(dict(file=f'{name}.csv', caption=caption))

    def add_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write ``name.npz``."""
        self._begin()
        self._write(f'{name}.npz', packed(arrays))

    def finish(self) -> None:
        """Write the index; a folder without one is an interrupted measurement."""
        index = {**self._head, 'figures': self._figures, 'tables': self._tables}
        self._write(INDEX, (json.dumps(index, indent=2, ensure_ascii=False) + '\n').encode())

    def _begin(self) -> None:
        """Delete the index of an earlier measurement: it no longer describes the folder."""
        (self.folder / INDEX).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.folder / name, lambda file: file.write(content))


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``path.png`` and ``path.pdf``."""
    for suffix in SUFFIXES:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=DPI)
        content = buffer.getvalue()
        write_atomically(
            path.with_name(f'{path.name}{suffix}'), lambda file, c=content: file.write(c)
        )


def write_figure(
    figure: Figure,
    out: str | Path,
    name: str,
    caption: str,
    *,
    settings: Mapping[str, object],
    rows: Sequence[Mapping[str, object]] = (),
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a PNG and a PDF if ``out`` ends so, else a results folder; return the PNG's path."""
    out = Path(out)
    if out.suffix in SUFFIXES:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, out.with_suffix(''))
        return out.with_suffix('.png')
    results = Results(out, name, settings)
    results.add_figure(figure, name, caption)
    if rows:
        results.add_table(rows, name, caption)
    if arrays:
        results.add_arrays(name, **arrays)
    results.finish()
    return out / f'{name}.png'


class PartStore:
    """Arrays by the name of a part, in one folder per measurement.

    Args:
        folder: Parent of all measurements.
        label: First part of the folder's name.
        settings: Everything that the arrays depend on, JSON-serializable: seeds, numbers, the
            fingerprint of the network. The folder's name has a hash of them and of the package's
            version.

    Attributes:
        folder: Of this measurement; created if missing.
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
        """Read the arrays of part ``name`` from disk, or measure and save them."""
        found = self.read(name)
        return self.save(name, measure()) if found is None else found

    def read(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of part ``name``, None if it has not been saved."""
        path = self.folder / f'{name}.npz'
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            path.unlink()  # damaged after it was written: measure again
            return None

    def save(self, name: str, measured: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write the arrays of part ``name``."""
        arrays = dict(measured)
        write_atomically(self.folder / f'{name}.npz', lambda file: file.write(packed(arrays)))
        return arrays


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of an NPZ file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  (allow_pickle is not in it)
    return buffer.getvalue()


def progress(items: Sequence[T], label: str) -> Iterable[T]:
    """Iterate with a progress bar on standard error, on rank 0 and in a terminal only."""
    console = Console(stderr=True)
    shown = console.is_terminal and is_main_process()
    return track(items, escape(label), console=console, disable=not shown)
