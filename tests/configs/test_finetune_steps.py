"""Every fine-tuning recipe trains: two optimiser steps and an evaluation by ``tools/train.py``.

The configs run as they are, with smaller trunks, few and tiny images, no warm-up and without the
mixed precision that a CPU emulates, all by ``--cfg-options``, as a user would give them.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config

from toy_run import ROOT, load_tool, read_scalars, write_images

FILES = sorted((ROOT / 'configs/openmixup/finetune').rglob('*.py'))
RECIPES = [path for path in FILES if '_base_' not in path.parts]
SIDE = 32
SMALLER = {  # options of timm's families
    'resnet': dict(layers=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
    'beit': dict(img_size=SIDE, depth=1, embed_dim=64, num_heads=2),
    'convnext': dict(depths=[1, 1, 1, 1], dims=[16, 32, 64, 128]),
}

train = load_tool('train').main


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four images, and of one to evaluate on."""
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'train', 4)
    write_images(root / 'val', 1)
    return root


def small_options(config: Config) -> dict[str, object]:
    """What makes a run of two steps of it, on images of 32 pixels."""
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    batch = 12 // (2 * accumulated)  # an epoch of the 12 images is two steps
    options = {
        'train_dataloader.batch_size': batch,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.dataset.pipeline.0.size': SIDE,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'val_dataloader.dataset.pipeline.0.size': SIDE,
        'val_dataloader.dataset.pipeline.1.size': SIDE,
        'auto_scale_lr.base_batch_size': batch * accumulated,
        'param_scheduler.warmup': 0,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
        'optim_wrapper.type': 'OptimWrapper',
    }
    if 'erase' in config.train_dataloader.dataset:
        options['train_dataloader.dataset.erase.image_size'] = SIDE
    family = next(name for name in SMALLER if name in config.model.backbone.model_name)
    for name, value in SMALLER[family].items():
        options[f'model.backbone.{name}'] = value
    return options


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_a_recipe_takes_two_steps_and_is_evaluated(path, images, tmp_path):
    config = Config.fromfile(path)
    options = [f'{key}={value}'.replace(' ', '') for key, value in small_options(config).items()]
    work_dir = str(tmp_path / 'run')
    arguments = ['--work-dir', work_dir, '--data-root', str(images), '--cfg-options', *options]
    train([str(path), *arguments])
    logged = read_scalars(Path(work_dir))
    losses = [line['loss'] for line in logged if 'loss' in line]
    assert len(losses) == 2 * config.optim_wrapper.get('accumulative_counts', 1)
    assert np.isfinite(losses).all()
    assert any('accuracy/top1' in line for line in logged)
    optimizer = torch.load(tmp_path / 'run/latest.pth', weights_only=False)['optimizer']
    trained = sum(len(group['params']) for group in optimizer['param_groups'])
    assert len(optimizer['state']) == trained  # every parameter had a gradient
