"""``--data-root``: read the images of a config from another folder.

Sources are found by name: every ``source`` with a ``root`` inside a data loader or a hook.
"""

from collections.abc import Iterator
from pathlib import Path

from mmengine import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
HOOKS = ('default_hooks', 'custom_hooks')


def set_data_root(cfg: Config, root: str) -> None:
    """Point every image source of ``cfg`` at ``root``.

    A source that reads ``.../train`` or ``.../val`` in the config reads that part of ``root``
    where it exists, and ``root`` itself where it does not.

    Raises:
        FileNotFoundError: If ``root`` is no folder.
        ValueError: If no source reads a folder, or training and evaluation, in the loaders or in a
            hook that measures, would read the same images.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f'--data-root {root} is not a folder')
    places = [*LOADERS, *HOOKS]
    if not any(source for name in places for source in folder_sources(cfg.get(name))):
        raise ValueError(
            f'--data-root {root} has no effect: no data set of this config reads a folder'
        )
    for source in (source for name in places for source in folder_sources(cfg.get(name))):
        part = Path(root) / Path(source['root']).name
        source['root'] = str(part if part.is_dir() else root)
    remedy = f'put them in {root}/train and {root}/val'
    for name in LOADERS[1:]:
        split = name.split('_')[0]
        refuse_same_images(cfg.get('train_dataloader'), cfg.get(name), split, remedy)
    for hook in hooks_of(cfg):
        name, without = f'test of {hook.get("type")}', '--cfg-options custom_hooks=[]'
        hook_remedy = f'{remedy}, or train without that hook ({without})'
        refuse_same_images(hook.get('train'), hook.get('test'), name, hook_remedy)


def refuse_same_images(train: object, test: object, name: str, remedy: str) -> None:
    """Keep images to learn from, all or a few of each class, out of evaluation.

    Raises:
        ValueError: If a source below ``test`` reads the folder of one below ``train``, or a folder
            that holds it.
    """
    for learnt in folder_sources(train):
        for tested in folder_sources(test):
            inside = Path(learnt['root']).is_relative_to(tested['root'])
            if inside and options_of(learnt) == options_of(tested):
                raise ValueError(
                    f'--data-root gives training and {name} the same images, {learnt["root"]}; '
                    f'{remedy}'
                )


def options_of(source: dict) -> dict:
    """What else than the folder decides which images a source reads; a few are a part of all."""
    return {key: item for key, item in source.items() if key not in ('root', 'labels_per_class')}


def hooks_of(cfg: Config) -> Iterator[dict]:
    """Every hook of a config, whichever way it is given."""
    yield from filter(None, (cfg.get('default_hooks') or {}).values())
    yield from cfg.get('custom_hooks') or []


def folder_sources(node: object) -> Iterator[dict]:
    """Every image source below ``node`` that reads a folder."""
    for dataset in find_datasets(node):
        if 'root' in dataset['source']:
            yield dataset['source']


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
