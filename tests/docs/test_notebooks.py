"""The notebooks are those of their sources, executed, and free of traces of a machine."""

import json
import re
from pathlib import Path

import pytest

from toy_run import ROOT

SOURCES = sorted((ROOT / 'examples').glob('*.py'))


def cells(source: Path) -> list[str]:
    """The cells of a file in the percent format, text without its comment signs."""
    found = []
    for cell in re.split(r'^# %%', source.read_text(encoding='utf-8'), flags=re.MULTILINE)[1:]:
        mark, _, body = cell.partition('\n')
        text = re.sub(r'^# ?', '', body, flags=re.MULTILINE) if 'markdown' in mark else body
        found.append(text.strip('\n'))
    return found


@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_source_and_their_outputs(source: Path) -> None:
    notebook = json.loads(source.with_suffix('.ipynb').read_text(encoding='utf-8'))
    assert [''.join(cell['source']) for cell in notebook['cells']] == cells(source)
    code = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell['outputs']]
    kinds = {kind for output in outputs for kind in output.get('data', {})}
    animated = {'image/gif'} if "'GIF'" in source.read_text(encoding='utf-8') else set()
    assert {'image/png'} | animated <= kinds
    assert source.with_suffix('.ipynb').stat().st_size < 1 << 20  # pictures at a modest resolution
    assert not any(output['output_type'] == 'error' for output in outputs)
    text = json.dumps([output.get('text', '') for output in outputs])
    assert not re.search(r'/(root|home|tmp|Users)/|Warning', text)
    assert 'is not installed' not in text  # outputs are those of a run with the extras


@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
def test_every_picture_has_a_caption(source: Path) -> None:
    """In emphasis in the cell below; on the site it is the alternative text as well."""
    notebook = json.loads(source.with_suffix('.ipynb').read_text(encoding='utf-8'))['cells']
    draws = [
        any(
            kind.startswith('image/')
            for out in cell.get('outputs', [])
            for kind in out.get('data', {})
        )
        for cell in notebook
    ]
    captions = [after for drawn, after in zip(draws, notebook[1:], strict=False) if drawn]
    assert len(captions) == sum(draws) >= 2
    for cell in captions:
        assert cell['cell_type'] == 'markdown'
        assert re.match(r'\*[A-Z][^*]{25,}\.\*(\s|$)', ''.join(cell['source']))


def test_there_is_a_notebook_and_the_index_links_each() -> None:
    index = (ROOT / 'docs/index.md').read_text(encoding='utf-8')
    assert SOURCES and all(f'(../examples/{path.stem}.ipynb)' in index for path in SOURCES)
