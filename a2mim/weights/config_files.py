"""Read a config file: ``.py`` is a program and is run, YAML and JSON are data.

mmengine reads YAML with a loader that calls what a tag names. Here all YAML is read by PyYAML's
safe loader, whichever file names it as its ``_base_``. A config in Python may import numpy, torch
or any other module to compute its values: arrays become lists, classes their dotted names, and
what was imported is left out.
"""

import os
import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml
from mmengine import Config
from mmengine.fileio.handlers import JsonHandler, YamlHandler, file_handlers

SUFFIXES = ('.py', '.yaml', '.yml', '.json')
PLAIN = (type(None), bool, int, float, complex, str, bytes, range, set, frozenset)
MOST_ENTRIES = 1_000_000  # of a whole config
MOST_LEVELS = 50
MOST_BITS = 64  # of an integer
# mmengine's other kind of config, in which an imported name stands for a type or for a base.
LAZY = re.compile(r'^\s*(with\s+read_base\b|from\s+\.)', re.MULTILINE)


def read_config(path: str | os.PathLike) -> Config:
    """Read the config file ``path`` and the files that it names as ``_base_``.

    Raises:
        ValueError: If it is of another kind, damaged, too large, or has a tag that makes an object.
        TypeError: If an entry is an object that a config cannot hold.
        ImportError: If a module of its ``custom_imports``, or one that it imports, is missing.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} is no config: its name must end in {", ".join(SUFFIXES)}')
    try:
        lazy = path.suffix == '.py' and bool(LAZY.search(path.read_text(encoding='utf-8')))
        with _data_only():
            cfg = Config.fromfile(path, lazy_import=None if lazy else False)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f'{path} or a _base_ of it cannot be read as a config: {error}') from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f'{path} is nested too deeply, or is a _base_ of itself') from error
    except ImportError as error:
        if 'custom modules' not in str(error):
            raise  # of an import statement
        cause = error  # mmengine's message has the whole of sys.path, and not what is missing
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        raise ImportError(
            f'custom_imports of {path}: {cause}; correct the name, install the package, or add '
            'its folder to PYTHONPATH'
        ) from error
    if not lazy:
        values = cfg._cfg_dict
        for name in [name for name, value in values.items() if callable(value)]:
            del values[name]  # imported, or defined by the config for its own use
        _make_plain(values, str(path))
    return cfg


def _make_plain(node: Any, place: str) -> Any:
    """``node`` with arrays as lists, classes as their dotted names and paths as text.

    Dicts and lists are changed in place.

    Raises:
        TypeError: If it holds an object that cannot be written into a config.
    """
    if isinstance(node, dict):
        for key, value in [*node.items()]:
            node[key] = _make_plain(value, f'{place}: {key}')
        return node
    if isinstance(node, list):
        node[:] = [_make_plain(item, place) for item in node]
        return node
    if isinstance(node, tuple):
        return tuple(_make_plain(item, place) for item in node)
    if isinstance(node, type | types.BuiltinFunctionType):
        return f'{node.__module__}.{node.__qualname__}'
    if isinstance(node, os.PathLike):
        return os.fspath(node)
    if type(node) not in PLAIN and hasattr(node, 'tolist'):  # numpy, torch
        return node.tolist()
    if not isinstance(node, PLAIN):
        name = type(node).__name__
        raise TypeError(
            f'{place} is an object ({name}); a config holds numbers, text, lists and dicts: write '
            f"dict(type='{name}', ...) with its arguments"
        )
    return node


class _SafeYaml(YamlHandler):
    """mmengine's handler with the loader that makes plain data only."""

    def load_from_fileobj(self, file: IO, **_: object) -> object:
        return _settings(yaml.load(file, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader)))


class _BoundedJson(JsonHandler):
    def load_from_fileobj(self, file: IO) -> object:
        return _settings(super().load_from_fileobj(file))


@contextmanager
def _data_only() -> Iterator[None]:
    """Let mmengine read YAML and JSON as data within the block."""
    before = dict(file_handlers)
    file_handlers.update(yaml=_SafeYaml(), yml=_SafeYaml(), json=_BoundedJson())
    try:
        yield
    finally:
        file_handlers.update(before)


def _settings(content: object) -> dict:
    """``content`` of a YAML or JSON file if it is a config of a sensible size."""
    if not isinstance(content, dict):
        kind = 'nothing' if content is None else f'a {type(content).__name__}'
        raise ValueError(f'a YAML or JSON config must hold entries KEY: VALUE, not {kind}')
    refuse_oversized(content, 'a YAML or JSON config')
    return content


def refuse_oversized(content: object, what: str) -> None:
    """Refuse plain data that nobody writes as a config; an alias of YAML counts at each use.

    Raises:
        ValueError: If there are too many entries or levels, or integers beyond 64 bits.
    """
    waiting, entries = [(content, 0)], 0
    while waiting:
        node, level = waiting.pop()
        entries += 1
        if entries > MOST_ENTRIES or level > MOST_LEVELS:
            raise ValueError(
                f'{what} of more than {MOST_ENTRIES:,} entries or {MOST_LEVELS} levels: refused'
            )
        if isinstance(node, int) and node.bit_length() > MOST_BITS:
            raise ValueError(f'{what} with an integer of {node.bit_length()} bits: refused')
        if isinstance(node, dict | list | tuple):
            items = node.values() if isinstance(node, dict) else node
            waiting += [(item, level + 1) for item in items]
