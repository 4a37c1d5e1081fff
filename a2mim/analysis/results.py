"""What a measurement leaves: figures as PNG and PDF, tables as CSV, arrays as NPZ, and an index.

``result.json`` names them with their captions; ``tools/analysis_tools/report.py`` reads it.
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


class Results:
    """The folder of one measurement.

    Args:
        folder: Where everything goes; created where it is missing.
        title: Of the section in a report.
        settings: What it was measured with, as JSON takes it: images, seeds, subjects.
    """

    def __init__(self, folder: str | Path, title: str, settings: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._index = dict(
            title=title, version=__version__, settings=dict(settings), figures=[], tables=[]
        )

    def add_figure(self, figure: Figure, name: str, caption: str) -> None:
        """Write ``name.png`` and ``name.pdf``; the caption says what is to be seen, and units."""
        self._begin()
        save_figure(figure, self.folder / name)
        self._index['figures'].append(dict(file=f'{name}.png', caption=caption))

    def add_table(self, rows: Sequence[Mapping[str, object]], name: str, caption: str) -> None:
        """Write ``name.csv``, one column for each key of the first row."""
        self._begin()
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        self._write(f'{name}.csv', text.getvalue().encode())
        self._index['tables'].append(dict(file=f'{name}.csv', caption=caption))

    def add_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write ``name.npz``."""
        self._begin()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self._write(f'{name}.npz', buffer.getvalue())

    def finish(self) -> None:
        """Write the index; a folder without one is an interrupted measurement."""
        text = json.dumps(self._index, indent=2, ensure_ascii=False) + '\n'
        self._write(INDEX, text.encode())

    def _begin(self) -> None:
        """Take the index of an earlier measurement away: from here on it would not be true."""
        (self.folder / INDEX).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.folder / name, lambda file: file.write(content))


def save_figure(figure: Figure, path: Path) -> None:
    """``path`` with the endings .png and .pdf."""
    for suffix in ('png', 'pdf'):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=DPI)
        content = buffer.getvalue()
        write_atomically(
            path.with_name(f'{path.name}.{suffix}'), lambda file, c=content: file.write(c)
        )


# [figure_file]
# One figure to where a command line says: a file, or a folder of results.


SUFFIXES = ('.png', '.pdf')


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
    """Write ``out`` as PNG and PDF if it ends so, else ``name``, table and arrays into a folder.

    Returns:
        The PNG.
    """
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


# [parts]
# A long measurement in parts, each on the disk once it is done, so that it can be interrupted.


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


# [progress]
# A bar over what a measurement still has to do.


T = TypeVar('T')


def progress(items: Sequence[T], label: str) -> Iterable[T]:
    """``items``, with a bar on standard error while they are worked off.

    Only the first process draws it, and only in a terminal.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and is_main_process()
    return track(items, escape(label), console=console, disable=not shown)
