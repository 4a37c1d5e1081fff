"""YAML and JSON are read as data, whichever file names them; Python may import what it needs."""

from pathlib import Path

import pytest
from mmengine import Config
from mmengine.fileio.handlers import file_handlers

from a2mim.engine.config_check import check_names
from a2mim.registry import MODELS
from a2mim.weights.config_files import read_config
from toy_run import load_tool

CALL = "a: !!python/object/apply:os.mkdir ['made']\n"
PLANTED = {
    'yaml': {'a.yaml': CALL},
    'yml': {'a.yml': CALL},
    'new': {'a.yaml': "a: !!python/object/new:os.mkdir ['made']\n"},
    'name': {'a.yaml': 'a: !!python/name:os.mkdir\n'},
    'in a list': {'a.yaml': f'b:\n  - 1\n  - {CALL}'},
    'base of json': {'a.json': '{"_base_": "b.yaml"}', 'b.yaml': CALL},
    'base of yaml': {'a.yaml': "_base_: ['b.yml']\n", 'b.yml': CALL},
    'base of python': {'a.py': "_base_ = ['b.yaml']\n", 'b.yaml': CALL},
    'base of a base': {
        'a.json': '{"_base_": "b.py"}',
        'b.py': "_base_ = 'c.yaml'",
        'c.yaml': CALL,
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(files: dict[str, str]) -> str:
    """Write files; return the name of the first."""
    for name, text in files.items():
        Path(name).write_text(text)
    return next(iter(files))


@pytest.mark.parametrize('files', PLANTED.values(), ids=PLANTED)
def test_a_tag_that_makes_an_object_is_refused(files):
    before = dict(file_handlers)
    with pytest.raises(ValueError, match=r'cannot be read as a config: could not determine'):
        read_config(write(files))
    assert not Path('made').exists()
    assert file_handlers == before


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('train', []),
        ('test', ['a.pth']),
        ('analysis_tools/print_config', []),
        ('visualizations/browse_dataset', []),
        ('visualizations/vis_lr', []),
    ],
)
def test_every_tool_refuses_it_in_one_line(tool, arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        load_tool(tool).main([write(PLANTED['base of json']), *arguments])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith('error: a.json') and said.count('\n') == 1
    assert not Path('made').exists()


def test_plain_yaml_and_json_are_read_as_before():
    files = {
        'a.yml': '_base_: b.json\nmodel:\n  lr: 1.0e-3\n  size: [1, 2]\n  name: {_delete_: true}\n',
        'b.json': '{"model": {"type": "A", "name": {"x": null}}, "_base_": "c.py"}',
        'c.py': 'rest = (1, 2)\n',
    }
    name = write(files)
    expected = dict(rest=(1, 2), model=dict(type='A', lr=1e-3, size=[1, 2], name={}))
    assert read_config(name).to_dict() == expected
    assert Config.fromfile(name).to_dict() == expected


LAUGHS = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'a{n + 1}: &a{n + 1} [{", ".join([f"*a{n}"] * 10)}]\n' for n in range(8)
)


@pytest.mark.parametrize(
    'files',
    [
        {'a.yaml': LAUGHS},
        {'a.json': '{"a": ' + '[' * 60 + ']' * 60 + '}'},
        {'a.json': '{"a": ' + '[' * 10**5 + ']' * 10**5 + '}'},
        {'a.yaml': 'a: ' + '[' * 10**4 + ']' * 10**4},
        {'a.json': '{"a": ' + '9' * 100 + '}'},
        {'a.json': '{"a": '},
        {'a.yaml': 'a: ['},
        {'a.yaml': ''},
        {'a.yml': '- a'},
        {'a.json': '3'},
        {'a.py': 'a = ' + '-' * 10**5 + '1'},
        {'a.toml': 'a = 1'},
    ],
)
def test_a_bomb_or_a_damaged_file_is_refused_by_its_name(files):
    name = write(files)
    with pytest.raises(ValueError, match=rf'^{name} '):
        read_config(name)


def test_a_config_that_is_not_utf8_is_named():
    Path('a.py').write_bytes(b"a = '\xe9'\n")
    with pytest.raises(ValueError, match=r'^a.py .*utf-8'):
        read_config('a.py')


@pytest.mark.parametrize(
    'head, value, expected',
    [
        ('import numpy as np', '(np.array([0.1, 0.2]) * 10).tolist()', [1.0, 2.0]),
        ('import numpy as np', 'np.array([[1, 2]])', [[1, 2]]),
        ('import numpy as np', 'np.float32(3)', 3.0),
        ('import numpy', '(numpy.int64(2), 1)', (2, 1)),
        ('import numpy as np', 'np.pi', 3.141592653589793),
        ('import torch', 'torch.tensor([1.0, 5.0])', [1.0, 5.0]),
        ('import torch', 'dict(weight=torch.ones(2))', {'weight': [1.0, 1.0]}),
        ('from math import sqrt', 'sqrt(4)', 2.0),
        ('from pathlib import Path', "Path('a') / 'b'", 'a/b'),
        ('import a2mim', 'a2mim.__name__', 'a2mim'),
        (
            'from a2mim.models import A2MIM',
            'dict(type=A2MIM)',
            {'type': 'a2mim.models.a2mim.A2MIM'},
        ),
        ('def twice(x):\n    return 2 * x', 'twice(2)', 4),
    ],
)
@pytest.mark.parametrize('base', ['', "_base_ = ['b.py']\n"], ids=['alone', 'with a base'])
def test_a_config_may_import_what_computes_its_values(head, value, expected, base):
    write({'a.py': f'{head}\n{base}value = {value}\n', 'b.py': f'{head}\nother = {value}\n'})
    cfg = read_config('a.py')
    assert cfg.to_dict() == dict(value=expected, **(dict(other=expected) if base else {}))
    written = Config.fromstring(cfg.pretty_text, '.py')  # what a run leaves in its work dir
    assert written.value == expected


def test_an_imported_class_is_a_type():
    write({'a.py': 'from a2mim.models import ImagePreprocessor as P\nm = dict(type=P, mean=[1])\n'})
    entry = read_config('a.py').m
    entry.std = [2]
    assert MODELS.build(entry).mean.numel() == 1


@pytest.mark.parametrize(
    'value', ['torch.nn.L1Loss()', '[dict(a=torch.float32)]', 'dict(a=lambda x: x)', 'object()']
)
def test_an_object_is_refused_with_the_way_to_write_it(value):
    with pytest.raises(TypeError, match=r"a.py: m.* is an object .*write dict\(type='"):
        read_config(write({'a.py': f'import torch\nm = dict(loss={value})\n'}))


def test_the_kind_of_config_with_read_base_is_read_as_before():
    files = {
        'a.py': (
            'from mmengine.config import read_base\n'
            'from a2mim.models import ImagePreprocessor\n'
            'with read_base():\n    from .b import *\n'
            'model = dict(data_preprocessor=dict(type=ImagePreprocessor))\n'
        ),
        'b.py': 'work_dir = "w"\n',
    }
    cfg = read_config(write(files))
    assert cfg.work_dir == 'w'
    check_names(cfg)


@pytest.mark.parametrize('suffix', ['py', 'yaml'])
def test_a_custom_import_that_fails_is_one_line_with_what_is_missing(suffix, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path('with_a_gap.py').write_text('import no_such_package\n')
    for name, missing in (
        ('a2mim.mmpretrian', 'a2mim.mmpretrian'),
        ('with_a_gap', 'no_such_package'),
    ):
        entry = f'{{"imports": ["{name}"], "allow_failed_imports": False}}'
        sign = '=' if suffix == 'py' else ': '
        path = write({f'a.{suffix}': f'custom_imports{sign}{entry}\n'})
        with pytest.raises(ImportError) as refusal:
            read_config(path)
        message = str(refusal.value)
        assert f"custom_imports of a.{suffix}: No module named '{missing}'; correct" in message
        assert '\n' not in message and 'PYTHONPATH' in message
