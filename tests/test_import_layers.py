"""Imports point down: config, tools, engine, models and data, registry and masking."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'a2mim'

# What a part of the package may import from the package, beside itself.
ALLOWED = {
    'version': set(),
    'errors': set(),
    'interfaces': set(),
    'registry': set(),
    'masking': set(),
    'weights': {'interfaces', 'registry', 'errors', 'version'},
    'datasets': {'interfaces', 'registry', 'masking', 'errors'},
    'models': {'interfaces', 'registry', 'masking', 'weights'},
    'engine': {'interfaces', 'registry', 'masking', 'errors', 'weights', 'version'},
    'evaluation': {'interfaces', 'registry', 'masking'},
    'transfer': {'interfaces', 'registry', 'weights', 'models', 'engine'},
    'doctor': {'registry'},
    'inference': {'interfaces', 'masking', 'datasets', 'models'},
    'analysis': {
        'interfaces',
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
    '': {'version'},
}


def part_of(module: str) -> str:
    """The entry of ALLOWED that ``module`` (dotted, without ``a2mim.``) belongs to."""
    names = module.split('.')
    if names[0] in ALLOWED:
        return names[0]
    raise AssertionError(f'a2mim.{module} belongs to no layer: add it to ALLOWED')


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that ``path`` imports, dotted, without ``a2mim.``."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        modules |= {name[len('a2mim.') :] for name in names if name.startswith('a2mim.')}
    return modules


@pytest.mark.parametrize(
    'path', sorted(PACKAGE.rglob('*.py')), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    module = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
    own = part_of(module.removesuffix('.__init__').removesuffix('__init__'))
    for imported in imported_modules(path):
        target = part_of(imported)
        allowed = target == own or target.split('.')[0] in ALLOWED[own] or target in ALLOWED[own]
        assert allowed, f'{module} ({own or "package"}) imports a2mim.{imported} ({target})'


def test_masking_and_registry_need_torch_numpy_and_mmengine_only():
    for name in ('masking', 'registry'):
        tree = ast.parse((PACKAGE / f'{name}.py').read_text(encoding='utf-8'))
        roots = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split('.')[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert roots <= {'math', 'numpy', 'torch', 'mmengine', 'a2mim'}
