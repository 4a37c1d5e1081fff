"""Links, pictures, the order and the messages of the pages, and what the site makes of them."""

import re
import runpy
from pathlib import Path
from types import FunctionType

import pytest

import a2mim
from a2mim import datasets, masking, models
from toy_run import ROOT, load_tool

DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.glob('*.md'))
TEXTS = {page: page.read_text(encoding='utf-8') for page in PAGES}
LINK = re.compile(r'(?<!!)\[[^\]]+\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)')
PICTURE = re.compile(r'!\[([^\]]*)\]\(([^)\s]+)\)')
CAPTIONED = re.compile(r'!\[[^\]]+\]\([^)\s]+\)\\\n\*[A-Z][^*]+\.\*\n')
CODE = re.compile(r'^```.*?^```|`[^`\n]*`', re.MULTILINE | re.DOTALL)
by_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as code hosts and the site make them."""
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', [*PAGES, *ROOT.glob('*.md')], ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for name, anchor in LINK.findall(CODE.sub('', page.read_text(encoding='utf-8'))):
        target = page if not name else ROOT / name[1:] if name[0] == '/' else page.parent / name
        assert target.exists(), f'{page.name}: {name}'
        if anchor:
            assert anchor in anchors(target.read_text(encoding='utf-8')), f'{page.name}: #{anchor}'


@by_page
def test_every_picture_is_there_and_has_a_caption_and_an_alternative_text(page: Path) -> None:
    pictures = PICTURE.findall(TEXTS[page])
    assert len(CAPTIONED.findall(TEXTS[page])) == len(pictures)
    for alternative, name in pictures:
        assert len(alternative.split()) >= 4, name
        assert (DOCS / name).is_file(), name


def test_every_picture_is_shown() -> None:
    shown = {name for text in TEXTS.values() for _, name in PICTURE.findall(text)}
    assert shown == {f'images/{path.name}' for path in (DOCS / 'images').iterdir()}


def test_the_gallery_is_up_to_date() -> None:
    tool = load_tool('development/make_gallery')
    tool.main(['--check'])
    assert all(tool.COMMAND.search(entry) for entry in tool.figures())


def test_the_index_links_every_page_once_and_the_site_has_its_order() -> None:
    pages = re.findall(r'^- \[[^\]]+\]\((\w+)\.md\)', TEXTS[DOCS / 'index.md'], re.MULTILINE)
    assert sorted([*pages, 'index']) == [page.stem for page in PAGES]
    contents = runpy.run_path(str(DOCS / 'conf.py'))['contents'](TEXTS[DOCS / 'index.md'])
    assert re.findall(r'^(\w+)$', contents, re.MULTILINE) == pages
    assert contents.count('```{toctree}') == TEXTS[DOCS / 'index.md'].count('\n## ')


@pytest.mark.parametrize(
    'folder, link, expected',
    [
        ('docs', 'own_data.md#how-long', '/own_data.md#how-long'),
        ('docs', '../a2mim/masking.py', '{source}/blob/main/a2mim/masking.py'),
        ('docs', '../CONTRIBUTING.md', '/contributing.md'),
        ('configs', '/configs/openmixup/README.md', '/deviations.md'),
        ('configs/openmixup', '/docs/own_data.md', '/own_data.md'),
        ('.', 'docs/code_tour.md', '/code_tour.md'),
        ('.', 'tools', '{source}/blob/main/tools'),
        ('docs', 'https://arxiv.org/abs/2205.13943', 'https://arxiv.org/abs/2205.13943'),
        ('docs', '#signals', '#signals'),
    ],
)
def test_links_that_leave_the_folder_lead_to_a_page_or_the_repository(
    folder: str, link: str, expected: str
) -> None:
    site = runpy.run_path(str(DOCS / 'conf.py'))
    found = site['site_links'](f'see [it]({link}) there', ROOT / folder)
    assert found == f'see [it]({expected.format(source=site["SOURCE"])}) there'


def test_the_api_page_has_every_name_that_is_stable() -> None:
    text = TEXTS[DOCS / 'api.md']
    stated = set(re.findall(r'^\.\. auto(?:class|function):: ([\w.]+)$', text, re.MULTILINE))
    stable = {f'a2mim.{name}' for name in a2mim.__all__ if name != '__version__'}
    for module in (models, datasets):
        names = [name for name in module.__all__ if callable(getattr(module, name))]
        stable |= {f'{module.__name__}.{name}' for name in names}
    functions = {f.__name__ for f in vars(masking).values() if isinstance(f, FunctionType)}
    stable |= {f'a2mim.masking.{name}' for name in functions if name[0] != '_'}
    assert stated == {*stable, 'a2mim.transfer.TrunkPretrained'}


def test_every_message_under_troubleshooting_is_one_of_the_program() -> None:
    source = '\n'.join(
        path.read_text(encoding='utf-8') for path in sorted((ROOT / 'a2mim').rglob('*.py'))
    )
    source = re.sub(r"""['"]\s*\n\s*f?['"]""", '', source)  # literals over several lines
    rows = re.findall(r'^\| `([^`]+)` \|', TEXTS[DOCS / 'troubleshooting.md'], re.MULTILINE)
    assert len(rows) > 20
    for message in rows:
        for part in re.split(r'\s*…\)?\s*', message):
            assert part.strip('(') in source, message


@pytest.mark.parametrize(
    'word, page',
    [
        ('wandb', 'run_tools'),
        ('GeoTIFF', 'data_formats'),
        ('DICOM', 'data_formats'),
        ('resume', 'resume'),
        ('NaN', 'reliability'),
        ('Slurm', 'scale'),
        ('Colab', 'install'),
        ('ONNX', 'export'),
        ('COCO', 'transfer'),
        ('MMPretrain', 'mmpretrain'),
        ('dataset', 'own_data'),
        ('batch size', 'scale'),
        ('multi-GPU', 'scale'),
        ('OOM', 'troubleshooting'),
        ('Windows', 'install'),
        ('license', 'how_it_works'),
        ('cite', 'how_it_works'),
    ],
)
def test_the_search_of_the_site_puts_the_page_first_that_has_the_word_in_its_title(
    word: str, page: str
) -> None:
    # Sphinx ranks words of titles and headings above all others, and titles above headings.
    found: list[set[str]] = [set(), set()]
    for path, text in TEXTS.items():
        headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
        for names, lines in zip(found, (headings[:1], headings[1:]), strict=True):
            if any(re.search(rf'\b{word}\b', line, re.IGNORECASE) for line in lines):
                names.add(path.stem)
    titles, headings = found
    assert titles == {page} if titles else page in headings and len(headings) == 1
