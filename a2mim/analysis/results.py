"""What a measurement leaves: figures as PNG and PDF, tables as CSV, arrays as NPZ, and an index.

``result.json`` names them with their captions; ``tools/analysis_tools/report.py`` reads it.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from a2mim.version import __version__
from a2mim.weights.files import write_atomically

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
