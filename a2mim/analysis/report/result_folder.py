"""A finished measurement: figures and tables with captions, as ``Results`` left them."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from a2mim.analysis.results import INDEX

PNG = b'\x89PNG\r\n\x1a\n'


@dataclass(frozen=True)
class FigureFile:
    """A picture: the bytes of a PNG, and what is to be seen in it."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of cells as text, below the names of the columns."""

    columns: list[str]
    rows: list[list[str]]
    caption: str


@dataclass(frozen=True)
class ResultFolder:
    """Everything that a report shows of a measurement.

    Attributes:
        folder: Where it was read from.
        title: Heading of its section.
        version: Of the package that measured.
        settings: What was measured with.
        figures: In the order in which they were added.
        tables: In the order in which they were added.
    """

    folder: Path
    title: str
    version: str
    settings: Mapping[str, object]
    figures: list[FigureFile]
    tables: list[Table]


def read_result_folder(folder: str | Path) -> ResultFolder:
    """Read ``result.json`` in ``folder`` and the files that it names.

    Raises:
        FileNotFoundError: If there is no such folder, it has no ``result.json``, or a file that
            this one names is missing.
        ValueError: If ``result.json`` or a file that it names is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: there is no such folder of results')
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(
            f'{folder} has no {INDEX}: no folder of results, or an interrupted measurement, which '
            'its command goes on with when it is given again'
        )
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
        figures = [(str(item['file']), str(item['caption'])) for item in index['figures']]
        tables = [(str(item['file']), str(item['caption'])) for item in index['tables']]
        title, version = str(index['title']), str(index['version'])
        settings = dict(index['settings'])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is damaged ({type(error).__name__}: {error}); measure again'
        ) from error
    return ResultFolder(
        folder,
        title,
        version,
        settings,
        [FigureFile(_png(folder, name), caption) for name, caption in figures],
        [_table(folder, name, caption) for name, caption in tables],
    )


def _png(folder: Path, name: str) -> bytes:
    content = _content(folder, name)
    if not content.startswith(PNG):
        raise ValueError(f'{folder / name} is no PNG, though {INDEX} says so; measure again')
    return content


def _table(folder: Path, name: str, caption: str) -> Table:
    try:
        lines = list(csv.reader(io.StringIO(_content(folder, name).decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{folder / name} is no table ({error}); measure again') from error
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError(f'{folder / name} has rows of different lengths, or none; measure again')
    return Table(lines[0], lines[1:], caption)


def _content(folder: Path, name: str) -> bytes:
    # A folder may come from a stranger: nothing outside it belongs into a report.
    if Path(name).name != name:
        raise ValueError(f'{folder / INDEX} names {name!r}, which is no file in its folder')
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing, though {INDEX} names it; measure again')
    return path.read_bytes()
