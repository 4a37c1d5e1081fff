"""What configs need to know about the OpenMMLab package that they inherit from, as one dict.

python tests/schema_writer.py CONFIG_FOLDER SCHEMA.json     with the package installed
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from mmengine import Config
from mmengine.registry import Registry

from a2mim.engine.config_check import accepted_arguments
from config_schema import bases_of


def schema_of(paths: list[Path]) -> dict:
    """Schema of all ``paths``, configs with bases of one package."""
    names = sorted({name for path in paths for name in bases_of(path) if '::' in name})
    packages = {name.split('::')[0] for name in names}
    bases = {name: inherited(name, paths[0]).to_dict() for name in names}
    trees = [*bases.values(), *(Config.fromfile(path).to_dict() for path in paths)]
    kinds = sorted({kind for tree in trees for kind in types_in(tree) if '.' not in kind})
    registries = [
        item
        for package in packages
        for item in vars(import_module(f'{package}.registry')).values()
        if isinstance(item, Registry)
    ]
    found = {kind: [item.get(kind) for item in registries] for kind in kinds}
    arguments = {
        kind: sorted(set().union(*(accepted_arguments(target)[0] for target in targets)) - {'self'})
        for kind, candidates in found.items()
        if (targets := [target for target in candidates if target is not None])
    }
    return dict(bases={name: skeleton(tree) for name, tree in bases.items()}, arguments=arguments)


def inherited(name: str, inheriting: Path) -> Config:
    """The config of a package that is called ``name``, such as ``mmdet::folder/file.py``."""
    path, _ = Config._get_cfg_path(name, str(inheriting))
    return Config.fromfile(path, import_custom_modules=False)


def types_in(node: object) -> Iterator[str]:
    """Every ``type`` below ``node``."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    for item in node if isinstance(node, list | tuple) else ():
        yield from types_in(item)


def skeleton(node: dict) -> dict:
    """Keys and types of ``node``; no other value."""
    return {
        key: skeleton(item) if isinstance(item, dict) else item if key == 'type' else None
        for key, item in node.items()
    }


def as_json(schema: dict) -> str:
    """A line for each inherited config and each type."""
    parts = {
        name: ',\n'.join(f'{json.dumps(key)}: {json.dumps(item)}' for key, item in part.items())
        for name, part in schema.items()
    }
    return '{' + ',\n'.join(f'"{name}": {{\n{lines}\n}}' for name, lines in parts.items()) + '}\n'


def main() -> None:
    """Run the command line."""
    folder, output = sys.argv[1:]
    schema = schema_of(sorted(Path(folder).glob('*.py')))
    Path(output).write_text(as_json(schema), encoding='utf-8')


if __name__ == '__main__':
    main()
