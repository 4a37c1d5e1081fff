"""Read configs that inherit from an OpenMMLab package without it, and check the names in them.

A schema, a JSON file beside the tests, keeps of the package what that takes: the keys and types of
each inherited config, and the arguments of each type. ``schema_writer.py`` writes it.
"""

import tempfile
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from unittest import mock

from mmengine import Config

import a2mim.transfer  # noqa: F401  registers what such configs name
from a2mim.engine.config_check import (
    CONSUMED,
    PLAIN_ENTRIES,
    RUNNER_KEYS,
    accepted_arguments,
    find_types,
)

# Read by mmengine before anything is built.
READ_BEFORE = CONSUMED | {'_scope_', '_delete_'}
# Types that hand what they do not know to another one.
PASSED_ON = {'RandomChoiceResize': 'Resize'}
# Arguments that the builder of norms takes out.
NORM = {'requires_grad'}
# Read by Config itself.
IMPORTS = {'imports', 'allow_failed_imports'}
# Checked by the class that reads them.
OPAQUE = ('paramwise_cfg',)


def read(path: Path, schema: dict) -> Config:
    """The config in ``path``, on the keys and types of what it inherits."""
    with tempfile.TemporaryDirectory() as folder:

        def locate(name: str, inheriting: str) -> tuple[str, None]:
            if '::' not in name:
                return str(Path(inheriting).parent / name), None
            stub = Path(folder, f'{abs(hash(name))}.py')
            entries = schema['bases'][name].items()
            stub.write_text('\n'.join(f'{key} = {value!r}' for key, value in entries))
            return str(stub), None

        with mock.patch.object(Config, '_get_cfg_path', locate):
            return Config.fromfile(path, import_custom_modules=False)


def unknown_names(path: Path, schema: dict) -> list[str]:
    """Dotted names in the config ``path`` that neither its bases nor its types know."""
    own = set()
    base: dict = {}
    for name in bases_of(path):
        if '::' in name:
            base |= schema['bases'][name]
        else:
            own |= Config.fromfile(path.parent / name).keys()
    cfg = read(path, schema).to_dict()
    top = [key for key in cfg if key not in RUNNER_KEYS | base.keys() | own]
    below = [
        name
        for key in cfg.keys() & RUNNER_KEYS
        for name in _unknown_below(cfg[key], base.get(key), key, schema['arguments'])
    ]
    return sorted(top + below)


def bases_of(path: Path) -> list[str]:
    """What the config inherits from, as it is written there."""
    return Config._get_base_files(str(path))


def _unknown_below(node: object, base: object, path: str, arguments: dict) -> Iterator[str]:
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from _unknown_below(item, None, f'{path}.{index}', arguments)
    if not isinstance(node, dict) or path.endswith(OPAQUE):
        return
    inherited = base if isinstance(base, dict) else {}
    kind = node.get('type')
    if kind is None or kind == inherited.get('type'):
        known = {*inherited, *arguments.get(kind, ())}
    else:
        known = known_arguments(kind, node, arguments)
    if 'norm_cfg' in path:
        known |= NORM
    known |= PLAIN_ENTRIES.get(path, set())
    if path == 'custom_imports':
        known |= IMPORTS
    yield from (f'{path}.{key}' for key in node.keys() - known - READ_BEFORE)
    for key, item in node.items():
        yield from _unknown_below(item, inherited.get(key), f'{path}.{key}', arguments)


def known_arguments(kind: str, given: Iterable[str], arguments: dict) -> set[str]:
    """Arguments of a type: of the package by the schema, of ours by its signature.

    One of ours that passes the rest on takes all of ``given`` but a near miss of a name it has.
    """
    if not kind.startswith('a2mim.'):
        return {*arguments[kind], *arguments.get(PASSED_ON.get(kind), ())}
    (found,) = find_types(kind.removeprefix('a2mim.'))
    names, exact = accepted_arguments(found)
    passed_on = {name for name in given if not exact and not get_close_matches(name, names)}
    return names | passed_on
