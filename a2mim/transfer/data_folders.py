"""The folders of a detection or segmentation data set, looked for before anything is built."""

from collections.abc import Iterable
from pathlib import Path

from mmengine import Config


def check_data_folders(cfg: Config, splits: Iterable[str]) -> None:
    """Find every ``data_root`` that the loaders of ``splits`` name, wrapped data sets included.

    Args:
        cfg: With ``train_dataloader``, ``val_dataloader`` and so on, where there are such.
        splits: Among 'train', 'val' and 'test'.

    Raises:
        FileNotFoundError: If one is no folder.
    """
    for split in splits:
        name, dataset = f'{split}_dataloader', (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        while dataset is not None:
            name += '.dataset'
            root = dataset.get('data_root')
            if root and not Path(root).is_dir():
                raise FileNotFoundError(
                    f'{name}.data_root={root}: there is no such folder; put the images there, or '
                    f'add {name}.data_root=DIR'
                )
            dataset = dataset.get('dataset')
