"""The page of a report: finished measurements as one HTML file without scripts.

Figures are inside the file, nothing is loaded from elsewhere. The style fits narrow and wide
screens, light and dark, and paper.
"""

import base64
import csv
import io
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from a2mim.analysis.results import DPI, INDEX

GENERATOR = 'a2mim report'
CSS_DPI = 96  # pixels of a page per inch
WIDE = 700  # pixels of a page, more than the width of a telephone
LONG_TABLE = 12  # rows; longer tables are folded
DECIMAL = re.compile(r'[-+]?\d+\.\d+(e[-+]?\d+)?')
NUMBER = re.compile(r'[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ± .+)?|nan')


@dataclass(frozen=True)
class FigureFile:
    """The bytes of a PNG, and its caption."""

    png: bytes
    caption: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the page."""
        width, height = struct.unpack('>II', self.png[16:24])
        return round(width * CSS_DPI / DPI), round(height * CSS_DPI / DPI)

    @property
    def base64(self) -> str:
        """The PNG as text."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """Column names, and rows of cells as text."""

    columns: list[str]
    rows: list[list[str]]
    caption: str


@dataclass(frozen=True)
class ResultFolder:
    """A finished measurement, as ``Results`` wrote it.

    Attributes:
        title: Heading of its section.
        version: Of the package that measured.
        settings: Of the measurement.
        figures, tables: In the order in which they were added.
    """

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
            f'{folder} has no {INDEX}: it is not a folder of results, or its measurement was '
            'interrupted; run the same command again to resume it'
        )
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
        figures = [(str(item['file']), str(item['caption'])) for item in index['figures']]
        tables = [(str(item['file']), str(item['caption'])) for item in index['tables']]
        title, version = str(index['title']), str(index['version'])
        settings = dict(index['settings'])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f'{path} is damaged ({type(error).__name__}: {error}); measure again'
        ) from error
    return ResultFolder(
        title,
        version,
        settings,
        [FigureFile(_png(folder, name), caption) for name, caption in figures],
        [_table(folder, name, caption) for name, caption in tables],
    )


def _png(folder: Path, name: str) -> bytes:
    content = _content(folder, name)
    try:
        with Image.open(io.BytesIO(content), formats=('PNG',)) as image:
            image.verify()
    # A damaged PNG ends in whatever error its bytes happen to mean.
    except Exception as error:
        raise ValueError(f'{folder / name} is not a PNG, or damaged; measure again') from error
    return content


def _table(folder: Path, name: str, caption: str) -> Table:
    try:
        lines = list(csv.reader(io.StringIO(_content(folder, name).decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{folder / name} is not a table ({error}); measure again') from error
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError(f'{folder / name} has rows of different lengths, or none; measure again')
    return Table(lines[0], lines[1:], caption)


def _content(folder: Path, name: str) -> bytes:
    # Folders may come from others: read nothing outside of them.
    if Path(name).name != name or (folder / name).resolve().parent != folder.resolve():
        raise ValueError(f'{folder / INDEX} names {name!r}, which is not a file in its folder')
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing, but {INDEX} names it; measure again')
    return path.read_bytes()


@dataclass(frozen=True)
class Header:
    """Top of a report.

    Attributes:
        title: Of the page.
        facts: Paragraphs below it: date, version, command line.
        runs: The compared networks, one row each.
        notes: For the reader, such as sections that were left out.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    runs: Table
    notes: Sequence[str] = ()


def render_page(header: Header, sections: Sequence[ResultFolder]) -> str:
    """The page: header, table of contents, and one section for each measurement."""
    environment = Environment(
        autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= dict(short=_short, setting=_setting)
    environment.tests['numeric'] = NUMBER.fullmatch
    return environment.from_string(TEMPLATE).render(
        header=header, sections=sections, generator=GENERATOR, wide=WIDE, long_table=LONG_TABLE
    )


def _short(text: str) -> str:
    """A long decimal number with four significant digits, anything else as it is."""
    if not DECIMAL.fullmatch(text) or len(text) <= 6:
        return text
    value = float(text)
    return f'{value:.4g}' if abs(value) < 1e4 else f'{value:,.0f}'


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{{ generator }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ header.title }}</title>
<style>
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
</style>
</head>
<body>
{% macro grid(table) %}
<div class="table"><table>
<caption>{{ table.caption }}</caption>
<thead><tr>{% for name in table.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>
{%- for text in row %}
{# The first cell names the row: a label that looks like a number stays as it is. #}
{% if loop.first %}<td>{{ text }}</td>
{%- else %}<td{% if text is numeric %} class="number"{% endif %}>{{ text | short }}</td>
{%- endif %}{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
<header>
<h1>{{ header.title }}</h1>
{% for name, value in header.facts %}
<p class="facts">{{ name }}: {{ value }}</p>
{% endfor %}
{% for note in header.notes %}
<p>{{ note }}</p>
{% endfor %}
{{ grid(header.runs) }}</header>
<nav aria-label="Contents">
<ol>
{% for section in sections %}
<li><a href="#section-{{ loop.index }}">{{ section.title }}</a></li>
{% endfor %}
</ol>
</nav>
<main>
{% for section in sections %}
<section id="section-{{ loop.index }}">
<h2>{{ loop.index }}. {{ section.title }}</h2>
<div class="figures">
{% for figure in section.figures %}
<figure{% if figure.size[0] > wide %} class="wide"{% endif %}><img src="data:image/png;base64,
{{- figure.base64 }}" width="{{ figure.size[0] }}" height="{{ figure.size[1] }}" alt="
{{- figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption></figure>
{% endfor %}
</div>
{% for table in section.tables %}
{% if table.rows | length > long_table %}
<details><summary>{{ table.caption }} Table of {{ table.rows | length }} rows</summary>
{{ grid(table) }}</details>
{% else %}
{{ grid(table) }}
{%- endif %}
{% endfor %}
<details><summary>Settings</summary>
<div class="table"><table>
<tbody>
{% for name, value in section.settings.items() %}
<tr><td>{{ name }}</td><td>{{ value | setting }}</td></tr>
{% endfor %}
<tr><td>a2mim</td><td>{{ section.version }}</td></tr>
</tbody>
</table></div>
</details>
</section>
{% endfor %}
</main>
</body>
</html>
"""
