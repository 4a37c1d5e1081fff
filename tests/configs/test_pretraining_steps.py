"""Every pre-training recipe trains: two optimiser steps by ``tools/train.py``.

The configs run as they are, with smaller trunks, few and small images, no warm-up and without the
mixed precision that a CPU emulates, all by ``--cfg-options``, as a user would give them.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config

from recipes import PRETRAIN, pretraining, pretraining_recipes
from toy_run import load_tool, read_scalars, write_images

SIDE = 64
SMALLER = {  # options of timm's families
    'resnet': dict(layers=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
    'beit': dict(img_size=SIDE, depth=8, embed_dim=32, num_heads=2),
    'convnext': dict(depths=[1, 1, 1, 1], dims=[8, 8, 16, 16]),
    'swin': dict(
        img_size=SIDE, window_size=2, depths=[1, 1, 1, 1], embed_dim=8, num_heads=[1, 1, 1, 1]
    ),
}

train = load_tool('train').main


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images below ``train``, and a list of them."""
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 16)
    files = sorted((root / 'train').rglob('*.png'))
    names = [file.relative_to(root / 'train').as_posix() for file in files]
    (root / 'list.txt').write_text('\n'.join(names))
    return root


def small_options(config: Config, images: Path) -> dict[str, object]:
    """What makes a run of two steps of it, on images of 64 pixels with 4 mask blocks."""
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    batch = 48 // (2 * accumulated)  # an epoch of the 48 images is two steps
    options = {
        'train_dataloader.batch_size': batch,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.dataset.pipeline.0.size': SIDE,
        'train_dataloader.dataset.mask.image_size': SIDE,
        'auto_scale_lr.base_batch_size': batch * accumulated,
        'param_scheduler.warmup': 0,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
        'optim_wrapper.type': 'OptimWrapper',
    }
    source = 'train_dataloader.dataset.source'
    if config.train_dataloader.dataset.source.type == 'ImageList':
        options[f'{source}.list_file'] = images / 'list.txt'
    if config.train_dataloader.dataset.source.type == 'CIFAR':  # which would be fetched
        options |= {f'{source}._delete_': True, f'{source}.type': 'ImageFolder'}
        options[f'{source}.root'] = 'train'
    family = next(name for name in SMALLER if name in config.model.backbone.model_name)
    for name, value in SMALLER[family].items():
        options[f'model.backbone.{name}'] = value
    return options


@pytest.mark.parametrize('name', sorted(pretraining_recipes()))
def test_a_recipe_takes_two_steps(name, images, tmp_path):
    config = pretraining(name)
    pairs = small_options(config, images).items()
    options = [f'{key}={value}'.replace(' ', '') for key, value in pairs]
    work_dir = tmp_path / 'run'
    arguments = ['--work-dir', str(work_dir), '--data-root', str(images), '--cfg-options', *options]
    train([str(PRETRAIN / f'{name}.py'), *arguments])
    losses = [line['loss'] for line in read_scalars(work_dir) if 'loss' in line]
    assert len(losses) == 2 * config.optim_wrapper.get('accumulative_counts', 1)
    assert np.isfinite(losses).all()
    optimizer = torch.load(work_dir / 'latest.pth', weights_only=False)['optimizer']
    trained = sum(len(group['params']) for group in optimizer['param_groups'])
    assert len(optimizer['state']) == trained  # every parameter had a gradient
    steps = {int(state['step']) for state in optimizer['state'].values()}
    assert steps == {2}
