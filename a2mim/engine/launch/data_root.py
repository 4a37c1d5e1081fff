"""``--data-root``: read the images of a config from another folder.

Sources are found by name: every ``source`` with a ``root`` inside a data loader of the config.
"""

from collections.abc import Iterator
from pathlib import Path

from mmengine import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_data_root(cfg: Config, root: str) -> None:
    """Point every image source of ``cfg`` at ``root``.

    A source that reads ``.../train`` or ``.../val`` in the config reads that part of ``root``
    where it exists, and ``root`` itself where it does not.

    Raises:
        FileNotFoundError: If ``root`` is no folder.
        ValueError: If no source reads a folder, or training and evaluation would read the same
            images.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f'--data-root {root} is not a folder')
    sources = {
        name: [d['source'] for d in find_datasets(cfg.get(name)) if 'root' in d['source']]
        for name in LOADERS
    }
    if not any(sources.values()):
        raise ValueError(
            f'--data-root {root} has no effect: no data set of this config reads a folder'
        )
    for source in (source for found in sources.values() for source in found):
        part = Path(root) / Path(source['root']).name
        source['root'] = str(part if part.is_dir() else root)
    for name in LOADERS[1:]:
        for source in sources[name]:
            if source in sources['train_dataloader']:
                raise ValueError(
                    f'--data-root {root} gives training and {name.split("_")[0]} the same '
                    f'images, {source["root"]}; put them in {root}/train and {root}/val'
                )


def find_datasets(node: object) -> Iterator[dict]:
    """Every dict below ``node`` with a ``source``: the data sets of this package."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from find_datasets(item)
    elif isinstance(node, dict):
        if isinstance(node.get('source'), dict):
            yield node
        for item in node.values():
            yield from find_datasets(item)
