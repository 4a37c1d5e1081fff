"""The page: well-formed, complete in itself, and true to the folders that it shows."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from a2mim.analysis import Results
from a2mim.analysis.report_page import (
    Header,
    ResultFolder,
    Table,
    _short,
    read_result_folder,
    render_page,
)

NASTY = """<b>"A" & 'B'</b>"""
VOID = {'meta', 'img'}


class Page(HTMLParser):
    """Checks nesting, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else '', data))

    def attributes(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        return [data for name, data in self.texts if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results = Results(tmp_path / 'one', NASTY, dict(images='photos', seeds=[0, 1], name=NASTY))
    for name in ('first', 'second'):
        results.add_figure(Figure(figsize=(2, 1)), name, f'{name} {NASTY}')
    rows = [dict(network='1.23456789', top1=76.33928571, error='1.0 ± 0.2')]
    results.add_table(rows, 'numbers', NASTY)
    results.add_table([dict(row=row) for row in range(40)], 'long', 'Long.')
    results.finish()
    return tmp_path / 'one'


def rendered(*sections: ResultFolder) -> str:
    runs = Table(['network', 'source'], [[NASTY, 'here']], 'What is compared.')
    return render_page(Header(NASTY, [('Command', NASTY)], runs, [NASTY]), sections)


def test_nothing_comes_from_outside_and_nothing_runs(folder: Path) -> None:
    text = rendered(read_result_folder(folder))
    assert 'http' not in text and 'url(' not in text and '@import' not in text
    page = Page(text)
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in page.tags}
    addresses = [attrs.get('src') or attrs.get('href') for _, attrs in page.tags]
    assert all(one.startswith(('data:image/png;base64,', '#')) for one in addresses if one)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith('on')]


def test_every_figure_is_embedded_with_its_caption(folder: Path) -> None:
    page = Page(rendered(read_result_folder(folder)))
    pictures = page.attributes('img')
    data = [base64.b64decode(attrs['src'].split(',')[1]) for attrs in pictures]
    assert data == [(folder / f'{name}.png').read_bytes() for name in ('first', 'second')]
    captions = [f'first {NASTY}', f'second {NASTY}']
    assert [attrs['alt'] for attrs in pictures] == captions == page.text('figcaption')
    # Two inches at 96 pixels an inch.
    assert [(attrs['width'], attrs['height']) for attrs in pictures] == [('192', '96')] * 2


def test_labels_are_text_and_no_markup(folder: Path) -> None:
    text = rendered(read_result_folder(folder))
    assert '<b>' not in text
    page = Page(text)
    assert NASTY in page.text('td') and NASTY in page.text('caption')
    assert page.text('title') == [NASTY] == page.text('h1')
    assert f'1. {NASTY}' in page.text('h2')


def test_contents_lead_to_every_section(folder: Path) -> None:
    section = read_result_folder(folder)
    page = Page(rendered(section, section))
    ids = [attrs['id'] for attrs in page.attributes('section')]
    assert [attrs['href'] for attrs in page.attributes('a')] == [f'#{one}' for one in ids]
    assert len(set(ids)) == 2


def test_tables_shorten_numbers_but_no_labels(folder: Path) -> None:
    cells = Page(rendered(read_result_folder(folder))).text('td')
    assert {'1.23456789', '76.34', '1.0 ± 0.2', '[0, 1]'} <= set(cells)


@pytest.mark.parametrize(
    'text, shown',
    [
        ('0.000528909', '0.0005289'),
        ('-12345.678', '-12,346'),
        ('12345678', '12345678'),
        ('20261127_172239', '20261127_172239'),
        ('nan', 'nan'),
        ('', ''),
    ],
)
def test_only_long_decimal_numbers_are_shortened(text: str, shown: str) -> None:
    assert _short(text) == shown


def test_long_tables_are_folded_away(folder: Path) -> None:
    summaries = Page(rendered(read_result_folder(folder))).text('summary')
    assert summaries == ['Long. Table of 40 rows', 'Settings']
