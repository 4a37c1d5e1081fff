"""Every experiment trains for two steps and evaluates, shrunk by options of the command line only.

Tiny images, few blocks, narrow trunks: what is tried is that data, model, losses, optimiser,
schedule and hooks of a recipe work together. The whole of it takes minutes, so it is marked slow.
"""

from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

from recipes_on_disk import EXPERIMENTS, name_of
from toy_run import load_tool

pytestmark = pytest.mark.slow
train = load_tool('train').main
NUM_CLASSES, PER_CLASS, SIDE = 5, 2, 64
# Options that make a trunk small, by the beginning of timm's name.
SMALL = {
    'resnet': ['layers=[1,1,1,1]'],
    'convnext': ['depths=[1,1,1,1]', 'dims=[8,16,32,64]'],
    'swin': ['depths=[1,1,1,1]', 'embed_dim=32', 'img_size=64', 'window_size=2'],
    'beit': ['depth=2', 'embed_dim=64', 'num_heads=4', 'img_size=64'],
    'vit': ['depth=2', 'embed_dim=64', 'num_heads=4', 'img_size=64'],
}


@pytest.fixture(scope='session')
def images(tmp_path_factory) -> Path:
    """Class folders in ``train`` and ``val``, and a list of each with and without labels."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        lines = []
        for label in range(NUM_CLASSES):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for index in range(PER_CLASS):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{index}.png')
                lines.append(f'{split}/class{label}/{index}.png {label}')
        (root / f'{split}.txt').write_text('\n'.join(lines))
    return root


def shrunk(config: Config, images: Path) -> list[str]:
    """Options that turn a recipe into a run of two steps on ``images``."""
    options = [
        'train_cfg.max_epochs=1',
        'param_scheduler.warmup=0',
        'default_hooks.logger.interval=1',
    ]
    if 'accumulative_counts' in config.optim_wrapper:
        options.append('optim_wrapper.accumulative_counts=1')
    backbone = config.model.backbone
    small = next(small for start, small in SMALL.items() if backbone.model_name.startswith(start))
    options += [f'model.backbone.{option}' for option in small]
    if backbone.get('num_classes'):
        options.append(f'model.backbone.num_classes={NUM_CLASSES}')
        if config.model.data_preprocessor.get('mixup'):
            options.append(f'model.data_preprocessor.mixup.num_classes={NUM_CLASSES}')
    for split, name in (('train', 'train_dataloader'), ('val', 'val_dataloader')):
        if config.get(name):
            options += shrunk_loader(config[name], name, images, split)
    return options


def shrunk_loader(loader: dict, name: str, images: Path, split: str) -> list[str]:
    """Two batches of two images of 64 pixels, in this process."""
    options = [f'{name}.batch_size=2', f'{name}.num_workers=0', f'{name}.num_batch_per_epoch=2']
    source = loader['dataset']['source']
    labelled = source.get('with_labels') or loader['dataset']['type'] == 'ImageDataset'
    new = {'_delete_': True, 'type': 'ImageFolder', 'root': images / split}
    if labelled:
        new['with_labels'] = True
    options += [f'{name}.dataset.source.{key}={value}' for key, value in new.items()]
    for index, step in enumerate(loader['dataset']['pipeline']):
        if 'size' in step:
            options.append(f'{name}.dataset.pipeline.{index}.size=64')
    if 'mask' in loader['dataset']:
        options += [f'{name}.dataset.mask.image_size=64', f'{name}.dataset.mask.block_size=32']
    return options


@pytest.mark.parametrize('path', EXPERIMENTS, ids=name_of)
def test_it_trains_two_steps_and_evaluates(path, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = shrunk(Config.fromfile(path), images)
    train([str(path), '--work-dir', 'run', '--auto-scale-lr', '--cfg-options', *options])
    assert Path('run/latest.pth').exists()
    losses = [
        line
        for line in next(Path('run').glob('*/vis_data/scalars.json')).read_text().splitlines()
        if '"loss"' in line
    ]
    assert len(losses) == 2
