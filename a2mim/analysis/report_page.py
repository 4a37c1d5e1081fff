"""One HTML page out of results: no script, nothing from outside, pictures inside the file."""

import base64
import csv
import io
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from a2mim.analysis.networks import RANDOM, Subject, split_label
from a2mim.analysis.results import DPI, INDEX
from a2mim.weights.load_model import embedded_config, input_spec
from a2mim.weights.safe_load import load_file

# [style]
# How a report looks: narrow and wide, light and dark, on paper.


STYLE = """\
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --faint: #5b6470;
  --line: #d5dae0; --stripe: #f5f7f9; --link: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #15181c; --faint: #a3acb8; --line: #3a424c;
    --stripe: #1e2329; --link: #7db7f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem 1.25rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
a { color: var(--link); }
code { font-size: .9em; }
nav ol { display: flex; flex-wrap: wrap; gap: .15rem 2.2rem; padding-left: 1.4rem; }
.facts { margin: .2rem 0; }
.facts, figcaption, caption, summary { color: var(--faint); font-size: .9rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem; width: min-content; }
/* Figures are drawn on white, and stay so in the dark. */
figure img { display: block; max-width: calc(min(100vw, 1200px) - 3.6rem); height: auto;
  background: #fff; border-radius: 3px; }
figcaption { padding: .4rem .25rem 0; }
.table { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem .4rem;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td { min-width: 4rem; max-width: 26rem; overflow-wrap: break-word; }
td:first-child { white-space: nowrap; }
header td:nth-child(2), header td:last-child { min-width: 13rem; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--stripe); }
details { margin-top: .75rem; }
/* A wide figure scrolls on a narrow screen instead of shrinking to nothing. */
@media screen and (max-width: 760px) {
  figure { width: 100%; }
  figure.wide { overflow-x: auto; }
  figure img { max-width: 100%; }
  figure.wide img { max-width: 700px; }
}
@media print {
  body { max-width: none; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  figure img { max-width: 100%; }
  figure { width: auto; }
}
"""


# [result_folder]
# A finished measurement: figures and tables with captions, as ``Results`` left them.


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
        [_folder_table(folder, name, caption) for name, caption in tables],
    )


def _png(folder: Path, name: str) -> bytes:
    content = _content(folder, name)
    if not content.startswith(PNG):
        raise ValueError(f'{folder / name} is no PNG, though {INDEX} says so; measure again')
    return content


def _folder_table(folder: Path, name: str, caption: str) -> Table:
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


GENERATOR = 'a2mim report'
CSS_DPI = 96  # pixels of a page per inch
WIDE = 700  # pixels of a page, more than a telephone has
LONG_TABLE = 12  # rows; what has more is folded away
DECIMAL = re.compile(r'[-+]?\d+\.\d+(e[-+]?\d+)?')
NUMBER = re.compile(r'[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ± .+)?|nan')


@dataclass(frozen=True)
class Header:
    """What is on top of a report.

    Attributes:
        title: Of the page.
        facts: Paragraphs below it: date, version, command line.
        runs: What is compared, one row each.
        notes: What the reader should know, such as sections that were left out.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    runs: Table
    notes: Sequence[str] = ()


def render_page(header: Header, sections: Sequence[ResultFolder]) -> str:
    """The page: header, table of contents, and one section for each measurement."""
    facts = ''.join(
        f'<p class="facts">{escape(name)}: {escape(value)}</p>\n' for name, value in header.facts
    )
    notes = ''.join(f'<p>{escape(note)}</p>\n' for note in header.notes)
    contents = ''.join(
        f'<li><a href="#section-{number}">{escape(section.title)}</a></li>\n'
        for number, section in enumerate(sections, start=1)
    )
    body = ''.join(_section(number, item) for number, item in enumerate(sections, start=1))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(header.title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n'
        f'<header>\n<h1>{escape(header.title)}</h1>\n{facts}{notes}'
        f'{_table(header.runs)}</header>\n'
        f'<nav aria-label="Contents">\n<ol>\n{contents}</ol>\n</nav>\n'
        f'<main>\n{body}</main>\n</body>\n</html>\n'
    )


def _section(number: int, section: ResultFolder) -> str:
    figures = ''.join(_figure(figure) for figure in section.figures)
    tables = ''.join(_table(table) for table in section.tables)
    settings = ''.join(
        f'<tr><td>{escape(name)}</td><td>{escape(_setting(value))}</td></tr>\n'
        for name, value in {**section.settings, 'a2mim': section.version}.items()
    )
    return (
        f'<section id="section-{number}">\n<h2>{number}. {escape(section.title)}</h2>\n'
        f'<div class="figures">\n{figures}</div>\n{tables}'
        f'<details><summary>Settings</summary>\n<div class="table"><table>\n<tbody>\n{settings}'
        '</tbody>\n</table></div>\n</details>\n</section>\n'
    )


def _figure(figure: FigureFile) -> str:
    width, height = (
        round(pixels * CSS_DPI / DPI) for pixels in struct.unpack('>II', figure.png[16:24])
    )
    data = base64.b64encode(figure.png).decode()
    caption = escape(figure.caption)
    kind = ' class="wide"' if width > WIDE else ''
    return (
        f'<figure{kind}><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{caption}">\n<figcaption>{caption}</figcaption></figure>\n'
    )


def _table(table: Table) -> str:
    names = ''.join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = ''.join(f'<tr>{_cells(row)}</tr>\n' for row in table.rows)
    markup = (
        f'<div class="table"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f'<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n'
    )
    if len(table.rows) <= LONG_TABLE:
        return markup
    summary = f'{escape(table.caption)} Table of {len(table.rows)} rows'
    return f'<details><summary>{summary}</summary>\n{markup}</details>\n'


def _cells(row: Sequence[str]) -> str:
    # The first one names the row: a label that looks like a number is left alone.
    cells = [f'<td>{escape(text)}</td>' for text in row[:1]]
    for text in row[1:]:
        kind = ' class="number"' if NUMBER.fullmatch(text) else ''
        cells.append(f'<td{kind}>{escape(_short(text))}</td>')
    return ''.join(cells)


def _short(text: str) -> str:
    """A long decimal number with four significant digits, anything else as it is."""
    if not DECIMAL.fullmatch(text) or len(text) <= 6:
        return text
    value = float(text)
    return f'{value:.4g}' if abs(value) < 1e4 else f'{value:,.0f}'


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# [entries]
# What a report compares: the work dir of a training, a checkpoint, or a timm model.


LATEST = 'latest.pth'
LOGS = '*/vis_data/scalars.json'


@dataclass(frozen=True)
class Entry:
    """One entry of the command line.

    Attributes:
        text: What ``read_subject`` takes.
        work_dir: With the logs of the training; None without.
    """

    text: str
    work_dir: Path | None = None


def read_entry(text: str) -> Entry:
    """``[LABEL=][random:]SOURCE``; SOURCE is a work dir or what ``read_subject`` takes.

    Raises:
        FileNotFoundError: If a folder holds no ``latest.pth``.
        ValueError: If it is a folder of results.
    """
    label, source = split_label(text)
    folder = Path(source.removeprefix(RANDOM))
    if not folder.is_dir():
        return Entry(text)
    if (folder / INDEX).is_file():
        raise ValueError(f'{folder} is a folder of results: give it as --results {folder}')
    if not (folder / LATEST).is_file():
        raise FileNotFoundError(
            f'{folder} has no {LATEST}: it is not the work dir of a training that has saved '
            'something; give one, or a checkpoint file'
        )
    random = RANDOM if source.startswith(RANDOM) else ''
    name = label or f'{"random " if random else ""}{folder.resolve().name}'
    # A random twin has not had the training that the logs tell of.
    logs = folder if not random and any(folder.glob(LOGS)) else None
    return Entry(f'{name}={random}{folder / LATEST}', logs)


# [header]
# The rows on top of a report: what each network is, and how it was trained.


HEADER_COLUMNS = ['network', 'source', 'kind', 'timm model', 'parameters', 'image (px)', 'recipe']
UNKNOWN = '–'


def runs_table(subjects: Sequence[Subject]) -> Table:
    """One row for each network."""
    caption = 'What is compared; parameters: of the timm model, without a decoder.'
    return Table(HEADER_COLUMNS, [_row(subject) for subject in subjects], caption)


def model_name(subject: Subject) -> str:
    """Of the architecture, as timm calls it."""
    return str(getattr(subject.model, 'pretrained_cfg', {}).get('architecture', UNKNOWN))


def recipe_line(config: Mapping) -> str:
    """Algorithm, optimiser, batch and length of a config, as far as it tells."""
    model, parts = config['model'], [str(config['model'].get('type', UNKNOWN))]
    if (config.get('train_dataloader') or {}).get('dataset', {}).get('mask'):
        spec = input_spec(config)
        place = model['backbone'].get('mask_after')
        parts.append(
            f'{100 * spec.ratio:g} % of blocks of {spec.block_size} px hidden'
            + (f', token after {place}' if place else '')
        )
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    if optimizer:
        decay = optimizer.get('weight_decay', 0)
        parts.append(f'{optimizer["type"]}, lr {optimizer["lr"]:g}, weight decay {decay:g}')
    if size := (config.get('train_dataloader') or {}).get('batch_size'):
        parts.append(f'batch {size} a process')
    loop = config.get('train_cfg') or {}
    for key, unit in (('max_epochs', 'epochs'), ('max_iters', 'iterations')):
        if loop.get(key):
            parts.append(f'{loop[key]} {unit}')
    return '; '.join(parts)


def _row(subject: Subject) -> list[str]:
    kind = 'timm model' if subject.whole is None else type(subject.whole).__name__
    number = sum(parameter.numel() for parameter in subject.model.parameters())
    height, width = subject.image_size
    return [
        subject.label,
        subject.source,
        kind,
        model_name(subject),
        f'{number:,}',
        f'{height}×{width}',
        _recipe(subject),
    ]


def _recipe(subject: Subject) -> str:
    if subject.source.startswith(RANDOM):
        return 'none: random weights'
    path = Path(subject.source)
    config = embedded_config(path, load_file(path)) if path.is_file() else None
    return recipe_line(config) if config else UNKNOWN
