"""One HTML page out of results: no script, nothing from outside, pictures inside the file."""

import base64
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from a2mim.analysis.report.result_folder import FigureFile, ResultFolder, Table
from a2mim.analysis.report.style import STYLE
from a2mim.analysis.results import DPI

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
