"""Development tools: measures are right, the tour names existing files, checks have targets."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

from a2mim.registry import DATASETS, HOOKS, MODELS
from toy_run import ROOT

PACKAGE = {
    '__init__.py': '',
    'errors.py': '"""Errors."""\n',
    'low/__init__.py': 'from a2mim.low.one import f\n',
    'low/one.py': '"""One.\n\nMore about it.\n"""\n\n\ndef f():\n    from a2mim.low import two\n',
    'low/two.py': 'import a2mim.low.one\nfrom a2mim.high.three import h\n',
    'high/three.py': 'from a2mim import errors, mid\n\n\ndef h():\n    return errors, mid\n',
    'mid.py': 'from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import a2mim.errors\n',
}


@pytest.fixture
def tool(monkeypatch):
    """A module of the folder by its name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/development'))
    return importlib.import_module


@pytest.fixture
def written(tmp_path) -> Path:
    """A checkout with a small package and one test."""
    for name, text in PACKAGE.items():
        path = tmp_path / 'a2mim' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests/test_one.py').write_text('def test():\n    pass\n')
    return tmp_path


def test_text_is_measured(tool, written):
    assert tool('measure_package').measure_text(written) == {
        'files in a2mim/': 7,
        'median lines': 2,
        'lines in a2mim/': 0 + 1 + 1 + 8 + 2 + 5 + 4,
        'import circles inside a folder': [],
        'lines of tests': 2,
    }


@pytest.mark.parametrize(
    'name, line, circle',
    [
        ('low/one.py', 'import a2mim.low.two', ['a2mim.low.one', 'a2mim.low.two']),
        ('errors.py', 'from a2mim.low import f', ['a2mim.errors', 'a2mim.high', 'a2mim.low']),
        ('low/one.py', 'from a2mim.low import f', ['a2mim.low.__init__', 'a2mim.low.one']),
        ('mid.py', 'class A:\n    import a2mim.high.three', ['a2mim.high', 'a2mim.mid']),
    ],
)
def test_import_cycles_of_modules_and_of_folders_are_found(tool, written, name, line, circle):
    path = written / 'a2mim' / name
    path.write_text(f'{line}\n{path.read_text()}')
    assert circle in tool('measure_package').measure_text(written)['import circles inside a folder']


def test_the_table_names_the_members_of_cycles(tool):
    table = tool('measure_package').as_table({'circles': [['a', 'b'], ['c', 'd']], 'lines': 3})
    assert table.splitlines()[2:] == ['| circles | 2; a, b; c, d |', '| lines | 3 |']


def test_a_list_of_the_tour_is_nested_by_callers(tool, written):
    files = {'a2mim/errors.py': None, 'a2mim/mid.py': None, 'a2mim/low/one.py': 'a2mim/errors.py'}
    assert tool('make_code_tour').call_list(files, written).splitlines() == [
        '- [errors.py](../a2mim/errors.py): Errors.',
        '  - [low/one.py](../a2mim/low/one.py): One.',
        '- [mid.py](../a2mim/mid.py): ',
    ]


def test_a_file_that_is_left_out_passes_its_callees_on(tool):
    files = {'a': None, 'b': 'a', 'c': 'b', 'd': 'c'}
    assert tool('traced_run').keep(files, {'a', 'd'}) == {'a': None, 'd': 'a'}


def test_the_tour_has_its_lists_and_names_existing_files(tool):
    make_code_tour = tool('make_code_tour')
    text = make_code_tour.PAGE.read_text(encoding='utf-8')
    blocks = list(make_code_tour.BLOCK.finditer(text))
    assert [block['name'] for block in blocks] == ['image', 'save', 'load', 'command']
    for block in blocks:
        files = re.findall(r'\]\(\.\./(.+?)\)', block[0])
        assert len(files) == block[0].count('\n- ') + len(re.findall(r'\n +- ', block[0])) > 0
        missing = [name for name in files if not (ROOT / name).is_file()]
        assert not missing, f'{missing}: run make docs'


@pytest.mark.integration
def test_a_traced_run_enters_what_it_uses(tool, tmp_path):
    phases = {name: set(files) for name, files in tool('traced_run').trace_run(tmp_path).items()}

    def file_of(kind: type) -> str:
        return Path(inspect.getsourcefile(kind)).relative_to(ROOT).as_posix()

    dataset = file_of(DATASETS.get('MaskedImageDataset'))
    algorithm = file_of(MODELS.get('A2MIM'))
    hook = file_of(HOOKS.get('CheckpointHook'))
    assert {dataset, algorithm} <= phases['image'] & phases['command']
    assert hook in phases['save'] & phases['load'] - phases['image']
    assert algorithm not in phases['save'] | phases['load']


def test_every_target_that_is_called_exists():
    texts = [(ROOT / '.ci/run').read_text(encoding='utf-8')]
    for path in (ROOT / '.github/workflows').glob('*.yml'):
        jobs = yaml.safe_load(path.read_text(encoding='utf-8'))['jobs'].values()
        texts += [step.get('run', '') for job in jobs for step in job['steps']]
    called = {
        name
        for text in texts
        for line in re.findall(r'^make (.+)', text, re.M)
        for name in line.split()
    }
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert 'lint' in called
    assert called <= set(re.findall(r'^(\w+):', makefile, re.MULTILINE))


def test_make_runs_the_tests_as_the_readme_does():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    command = re.search(r'<!-- test command -->.*?&& (python -m pytest[^\n]*)', readme, re.DOTALL)
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    recipe = re.search(r'^test:.*\n\t(.+)$', makefile, re.MULTILINE)
    install = re.search(r"(pip install -e '.*?')", readme)
    assert recipe[1] == command[1]
    assert f'\t{install[1]}\n' in makefile
