"""The documentation site: ``make site`` builds the Markdown pages of this folder with Sphinx.

The pages are plain Markdown, which a code host renders as well. What they lack for a site is added
here while they are read: the order of the pages, from the links of ``index.md``, addresses for
links that leave this folder, and alternative texts of pictures in notebooks, from their captions.
"""

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from a2mim.version import __version__  # noqa: E402

project = 'a2mim'
author = 'the a2mim authors'
copyright = author
release = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'sphinx_design',
]
exclude_patterns = ['_build']
myst_heading_anchors = 4
nb_execution_mode = 'off'
nb_merge_streams = True
nb_mime_priority_overrides = [('html', 'image/gif', 25)]
nb_ipywidgets_js: dict[str, dict] = {}  # nothing is loaded from elsewhere
autodoc_typehints = 'signature'
autodoc_member_order = 'bysource'
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_custom_sections = [('Shape', 'params_style'), ('Reference', 'References')]
copybutton_prompt_text = '$ '
suppress_warnings = ['misc.highlighting_failure']

html_theme = 'furo'
html_title = f'a2mim {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_js_files = ['tables.js']
html_show_sphinx = False
html_show_copyright = False

(SOURCE,) = re.findall("^Source = '(.+)'", (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)
html_theme_options = dict(source_repository=SOURCE, source_branch='main', source_directory='docs/')
# An address of this repository and of its future site exists only once they are published.
linkcheck_ignore = [re.escape(SOURCE)]

LINK = re.compile(r'(\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(\))')
# A line of a page that includes a file, for readers of the folder.
HOST_ONLY = re.compile(r'^On a code host, read .*\n\n', re.MULTILINE)
# Files outside of this folder that have a page, which includes them.
PAGES = {
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'RELEASING.md': 'releasing.md',
    'configs/README.md': 'recipes.md',
    'configs/openmixup/README.md': 'deviations.md',
}
# Notebooks are copied, with the outputs that are in them.
NOTEBOOKS = {path: f'notebooks/{path.name}' for path in sorted(ROOT.glob('examples/*.ipynb'))}
PAGES |= {f'examples/{path.name}': page for path, page in NOTEBOOKS.items()}


def site_links(text: str, folder: Path) -> str:
    """Replace links of a file in ``folder`` that leave ``docs``: by a page, or the repository."""

    def replace(match: re.Match[str]) -> str:
        name, anchor = match[2], match[3] or ''
        path = (ROOT / name[1:] if name.startswith('/') else folder / name).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        if path.is_relative_to(DOCS) or name in PAGES:
            page = PAGES.get(name) or path.relative_to(DOCS).as_posix()
            return f'{match[1]}/{page}{anchor}{match[4]}'
        return f'{match[1]}{SOURCE}/blob/main/{name}{anchor}{match[4]}'

    return LINK.sub(replace, text)


def contents(text: str) -> str:
    """The pages that ``index.md`` links to, by heading, as Sphinx's tables of contents."""
    found = ''
    for section in text.split('\n## ')[1:]:
        caption = section.partition('\n')[0]
        pages = re.findall(r'^- \[[^\]]+\]\(([\w/]+)\.(?:md|ipynb)\)', section, re.MULTILINE)
        lines = '\n'.join(pages)
        found += f'\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n'
    return found


def read_page(app: object, docname: str, source: list[str]) -> None:
    """Sphinx's event ``source-read``."""
    source[0] = site_links(HOST_ONLY.sub('', source[0]), DOCS)
    if docname == 'index':
        source[0] += contents(source[0].replace('](/', ']('))


def read_included(app: object, path: Path, docname: str, source: list[str]) -> None:
    """Sphinx's event ``include-read``."""
    source[0] = site_links(source[0], (DOCS / path).resolve().parent)


def describe_pictures(app: object, doctree, docname: str) -> None:
    """Sphinx's event ``doctree-resolved``: what a cell draws has the caption below it as its text.

    Raises:
        ValueError: If the paragraph after the cell is no emphasis.
    """
    from docutils import nodes  # not needed where the tests read this file

    for picture in doctree.findall(nodes.image):
        cell = picture
        while cell.parent and 'cell' not in cell.get('classes', []):
            cell = cell.parent
        if not cell.parent:
            continue  # of a page
        caption = cell.next_node(nodes.paragraph, descend=False, siblings=True, ascend=True)
        if caption is None or not isinstance(caption[0], nodes.emphasis):
            cell_text = cell.astext()[:60]
            raise ValueError(f'{docname}: no caption, in emphasis, below the cell {cell_text!r}')
        picture['alt'] = caption[0].astext().rstrip('.')


def setup(app) -> None:
    """Copy the notebooks, and connect the three."""
    for path, page in NOTEBOOKS.items():
        (DOCS / page).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, DOCS / page)
    app.connect('source-read', read_page)
    app.connect('include-read', read_included)
    app.connect('doctree-resolved', describe_pictures)
