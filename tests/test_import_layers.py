"""Imports point down: config, tools, engine, models and data, registry and masking."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'a2mim'

# What a part of the package may import from the package, beside itself.
ALLOWED = {
    'version': set(),
    'errors': set(),
    'options': {'errors'},
    'interfaces': set(),
    'registry': set(),
    'masking': set(),
    'length': set(),
    'scale': {'errors'},
    'weights': {'interfaces', 'options', 'registry', 'errors', 'version'},
    'datasets': {'interfaces', 'scale', 'registry', 'masking', 'errors'},
    'models': {'interfaces', 'scale', 'registry', 'masking', 'weights'},
    'engine': {
        'interfaces',
        'options',
        'scale',
        'registry',
        'masking',
        'length',
        'errors',
        'weights',
        'version',
        'models',
    },
    'evaluation': {'interfaces', 'registry', 'masking', 'length'},
    'transfer': {
        'options',
        'datasets',
        'errors',
        'interfaces',
        'registry',
        'weights',
        'models',
        'engine',
    },
    'mmpretrain': {'options', 'registry', 'datasets', 'models', 'transfer'},
    'doctor': {'registry', 'options'},
    'recipes': {'options', 'engine', 'weights'},
    '__main__': {'options', 'errors', 'version'},
    'inference': {'interfaces', 'scale', 'masking', 'datasets', 'models', 'weights'},
    'analysis': {
        'errors',
        'interfaces',
        'length',
        'options',
        'registry',
        'masking',
        'weights',
        'datasets',
        'models',
        'engine',
        'evaluation',
        'inference',
        'version',
    },
    'own_data': {
        'length',
        'datasets',
        'engine',
        'errors',
        'masking',
        'models',
        'options',
        'registry',
        'scale',
        'weights',
    },
    'study': {'datasets', 'engine', 'errors', 'evaluation', 'models', 'registry', 'weights'},
    'quickstart': {
        'errors',
        'interfaces',
        'masking',
        'options',
        'weights',
        'datasets',
        'engine',
        'analysis',
        'study',
    },
    '': {'version'},
}


def test_imports_point_down():
    assert upward_imports(modules_of(PACKAGE)) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = import_graph(modules_of(PACKAGE))
    assert circles(graph) == []
    assert circles(by_folder(graph)) == []


def test_masking_and_registry_need_torch_numpy_and_mmengine_only():
    modules = modules_of(PACKAGE)
    for name in ('masking', 'registry'):
        roots = {imported.split('.')[0] for imported in imports(modules[name].body, nested=True)}
        assert roots <= {'math', 'typing', 'numpy', 'torch', 'mmengine', 'a2mim'}


def modules_of(package: Path) -> dict[str, ast.Module]:
    """Syntax trees by dotted name below the package; '' is the package itself."""
    return {
        '.'.join(path.relative_to(package).with_suffix('').parts)
        .removesuffix('__init__')
        .removesuffix('.'): ast.parse(path.read_text(encoding='utf-8'))
        for path in sorted(package.rglob('*.py'))
    }


def imports(body: Iterable[ast.AST], *, nested: bool) -> Iterator[str]:
    """What statements import, dotted; ``nested``: in functions and for type checkers too."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'relative import of {node.module}'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif nested or not skipped_on_import(node):
            yield from imports(ast.iter_child_nodes(node), nested=nested)


def skipped_on_import(node: ast.AST) -> bool:
    """Whether what is inside does not run when the module is imported."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    for_types = isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
    return for_types or isinstance(node, functions)


def imports_from_package(tree: ast.Module, *, nested: bool) -> list[str]:
    """The imports from the package, without ``a2mim.``."""
    found = imports(tree.body, nested=nested)
    return sorted({name[len('a2mim.') :] for name in found if name.startswith('a2mim.')})


def part_of(module: str) -> str:
    """The entry of ALLOWED that a module or a name in it belongs to."""
    part = module.split('.')[0]
    assert part in ALLOWED, f'a2mim.{module} belongs to no layer: add it to ALLOWED'
    return part


def upward_imports(modules: dict[str, ast.Module]) -> list[str]:
    """A line for each import that ALLOWED does not have."""
    return [
        f'a2mim.{module} imports a2mim.{name}'
        for module, tree in modules.items()
        for name in imports_from_package(tree, nested=True)
        if part_of(name) not in ALLOWED[part_of(module)] | {part_of(module)}
    ]


def import_graph(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """For each module those that it imports when it is imported itself."""
    return {
        module: {
            name if name in modules else name.rpartition('.')[0]
            for name in imports_from_package(tree, nested=False)
        }
        - {module}
        for module, tree in modules.items()
    }


def by_folder(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same between the entries of each part: folders count as one module."""
    merged: dict[str, set[str]] = {}
    for module, imported in graph.items():
        entry = entry_of(module)
        merged.setdefault(entry, set()).update({entry_of(name) for name in imported} - {entry})
    return merged


def entry_of(module: str) -> str:
    return '.'.join(module.split('.')[:2])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which imports, by way of others, all of its group."""
    reach = {module: reachable(graph, module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in graph
        if module in reach[module]
    }
    return sorted(list(group) for group in groups)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


@pytest.fixture
def write(tmp_path):
    """A function that writes files by their module names and reads them as a package."""

    def write(files: dict[str, str]) -> dict[str, ast.Module]:
        for name, text in files.items():
            path = tmp_path / f'{name}.py'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return modules_of(tmp_path)

    return write


def test_an_upward_import_would_be_noticed(write):
    modules = write(
        {
            'registry': 'import torch',
            'models/head': 'import a2mim.registry\nfrom a2mim.models.losses import loss',
            'datasets/files': 'def load():\n    from a2mim.models.head import Head',
        }
    )
    assert upward_imports(modules) == ['a2mim.datasets.files imports a2mim.models.head.Head']


def test_a_part_without_a_layer_would_be_noticed(write):
    with pytest.raises(AssertionError, match='new_part belongs to no layer'):
        upward_imports(write({'new_part': 'import a2mim.registry'}))


def test_a_circle_within_a_folder_would_be_noticed(write):
    modules = write(
        {
            'engine/hooks': 'from a2mim.engine.launch import name',
            'engine/launch': 'from a2mim.engine import runner',
            'engine/runner': 'if True:\n    import a2mim.engine.hooks',
            'engine/other': 'from a2mim.engine.hooks import name',
        }
    )
    found = circles(import_graph(modules))
    assert found == [['engine.hooks', 'engine.launch', 'engine.runner']]


def test_a_folder_that_imports_what_imports_it_is_a_circle(write):
    modules = write(
        {
            'models/__init__': 'from a2mim.models.head import Head',
            'models/head': 'from a2mim.models import neck',
            'models/loss': 'from a2mim.models import Head',
        }
    )
    assert circles(import_graph(modules)) == [['models', 'models.head']]


def test_a_circle_of_folders_would_be_noticed(write):
    modules = write(
        {
            'engine/hooks/record': 'from a2mim.engine.launch.batch import plan',
            'engine/launch/batch': 'import torch',
            'engine/launch/build': 'from a2mim.engine.hooks.record import Record',
        }
    )
    graph = import_graph(modules)
    assert circles(graph) == []
    assert circles(by_folder(graph)) == [['engine.hooks', 'engine.launch']]


def test_imports_that_wait_close_no_circle(write):
    types = 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a2mim.engine.runner'
    modules = write(
        {
            'engine/runner': 'from a2mim.engine.hooks import Hook',
            'engine/hooks': f'{types}\ndef late():\n    from a2mim.engine.runner import Runner',
        }
    )
    assert circles(import_graph(modules)) == []


def test_relative_imports_are_refused(write):
    with pytest.raises(AssertionError, match='relative import of runner'):
        upward_imports(write({'engine/hooks': 'from .runner import Runner'}))
