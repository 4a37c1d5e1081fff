"""What is built from the text of a file passes through ``a2mim.weights.recipe``, and nowhere else.

Read off the syntax trees of the package and the tools. A *reader* turns the text of a file into
values, a *builder* turns values into objects by the names in them. A module has no use for both:
``recipe`` is the one that does, since it checks what it builds.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READERS = {
    'literal_config',
    'embedded_values',
    'embedded_config',
    'find_recipe',
    'read_failed_step',
    'literal_eval',
    'fromstring',
    'json.load',
    'json.loads',
    'yaml.load',
    'safe_load',
    'load_file',
    'peek',
    'safe_torch_load',
}
BUILDERS = {
    'build',
    'build_from_cfg',
    'build_model_from_cfg',
    'build_runner_from_cfg',
    'build_optim_wrapper',
    'create_model',
    'create_network',
    'from_cfg',
    'from_config',
    'get_object_from_string',
    'import_module',
}
# No module but these may name them: they run or import what a text says.
RUNS_TEXT = {
    'builtin eval',
    'builtin exec',
    'builtin compile',
    'builtin __import__',
    'Config.fromfile',
    'Config.fromstring',
    'yaml.load',
    'yaml.unsafe_load',
    'yaml.full_load',
    'mmengine.load',
}
ALLOWED = {
    ('a2mim/weights/recipe.py', 'build'): 'the checked way',
    ('a2mim/weights/recipe.py', 'build_optim_wrapper'): 'the checked way',
    ('a2mim/weights/recipe.py', 'create_model'): 'the checked way',
    ('a2mim/weights/load_model.py', 'build'): 'a config that the user names, or one of ours',
    ('a2mim/weights/export/timm.py', 'create_model'): 'the folder that it has just written',
    ('a2mim/weights/export/openmmlab.py', 'import_module'): 'a name in its own table',
    ('a2mim/weights/safe_load.py', 'import_module'): 'numpy',
    ('a2mim/analysis/vectors.py', 'import_module'): 'pyarrow',
    (
        'a2mim/analysis/networks.py',
        'create_model',
    ): 'a name on the command line',
    (
        'a2mim/analysis/runs.py',
        'build_optim_wrapper',
    ): 'the config of the user; it reads logs',
    ('a2mim/models/timm_backbone.py', 'build'): 'the config that the user names; it reads weights',
    ('a2mim/engine/pixel_scale.py', 'build'): 'the data of the user; a file gives it numbers',
    ('a2mim/datasets/tensors.py', 'build'): 'its own source, as the key of a cache',
    ('a2mim/study/driver.py', 'build'): 'the config of a run of its own; it reads weights',
    ('a2mim/transfer/data_check.py', 'build'): 'the config of the user; it reads annotations',
    ('a2mim/weights/config_files.py', 'Config.fromfile'): 'a config that the user names',
    ('a2mim/weights/config_files.py', 'yaml.load'): 'with the safe loader',
    ('tools/reliability/attacks.py', 'Config.fromfile'): 'its own config',
    ('tools/reliability/kill_and_resume.py', 'Config.fromfile'): 'its own config',
}


def called_names(tree: ast.AST) -> set[str]:
    """The last name of every call, and the one before it: ``loads`` and ``json.loads``."""
    found = set()
    for node in ast.walk(tree):
        # A function that is handed on, as in ``partial(MODELS.build, ...)``, counts as called.
        for target in [node.func, *node.args] if isinstance(node, ast.Call) else []:
            if isinstance(target, ast.Name | ast.Attribute):
                names = ast.unparse(target).split('.')
                found |= {names[-1], '.'.join(names[-2:])}
                found |= {f'builtin {names[0]}'} if len(names) == 1 else set()
    return found


def faults(name: str, text: str) -> list[str]:
    """The builders in a module that reads the text of files, and what runs text at all."""
    called = called_names(ast.parse(text))
    built = called & BUILDERS if called & READERS else set()
    found = built | called & RUNS_TEXT
    return sorted(f'{name}: {one}' for one in found if (name, one) not in ALLOWED)


def test_no_module_builds_what_it_reads_from_a_file():
    found = []
    for folder in ('a2mim', 'tools', 'analysis_tools'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            name = path.relative_to(ROOT).as_posix()
            found += faults(name, path.read_text(encoding='utf-8'))
    assert found == []


@pytest.mark.parametrize(
    'text',
    [
        'values = literal_config(content["config"])\nmodel = MODELS.build(values["model"])',
        'cfg = Config(recipe.embedded_values(content))\nRunner.from_cfg(cfg)',
        'def a():\n    return json.loads(path.read_text())\ndef b():\n    timm.create_model(**a())',
        'make = partial(MODELS.build, ast.literal_eval(text))',
        'model = eval(text)',
        'exec(text)',
        'cfg = Config.fromstring(content["meta"]["cfg"], ".py")',
        'cfg = mmengine.Config.fromfile(path)',
        'settings = yaml.load(file, Loader=yaml.Loader)',
    ],
)
def test_another_way_would_be_noticed(text):
    assert faults('a2mim/new.py', text)


def test_reading_alone_and_building_alone_pass():
    assert faults('a2mim/new.py', 'model = MODELS.build(config).eval()') == []
    assert faults('a2mim/new.py', 're.compile(x)\nvalues = literal_config(text)') == []


def test_every_exception_is_used():
    for name, builder in ALLOWED:
        called = called_names(ast.parse((ROOT / name).read_text(encoding='utf-8')))
        assert builder in called, f'{name} no longer calls {builder}: delete it from ALLOWED'
