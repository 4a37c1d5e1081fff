"""Every fine-tuning recipe trains: two optimiser steps and an evaluation by ``tools/train.py``.

The configs run as they are, with smaller trunks, few and tiny images, no warm-up and without the
mixed precision that a CPU emulates, all by ``--cfg-options``, as a user would give them.
"""

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from torchvision import datasets

from toy_run import CLASSES, ROOT, load_tool, read_scalars, write_images

FILES = sorted((ROOT / 'configs/openmixup/finetune').rglob('*.py'))
RECIPES = [path for path in FILES if '_base_' not in path.parts]
SIDE = 32
SMALLER = {  # options of timm's families
    'resnet': dict(layers=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
    'beit': dict(img_size=SIDE, depth=1, embed_dim=64, num_heads=2),
    'convnext': dict(depths=[1, 1, 1, 1], dims=[16, 32, 64, 128]),
    'swin': dict(img_size=SIDE, depths=[1, 1, 1, 1], embed_dim=16, num_heads=[1, 1, 2, 2]),
    'vit_': dict(img_size=SIDE, depth=1, embed_dim=64, num_heads=2),
    'deit': dict(img_size=SIDE, depth=1, embed_dim=64, num_heads=2),
}

train = load_tool('train').main


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three classes of four images, and of one to evaluate on: folders, lists and CIFAR's files."""
    root = tmp_path_factory.mktemp('images')
    for part, per_class in (('train', 4), ('val', 1), ('test', 1)):
        write_images(root / part, per_class)
        lines = [
            f'{name}/{index}.png {label}\n'
            for label, name in enumerate(CLASSES)
            for index in range(per_class)
        ]
        (root / f'{part}.txt').write_text(''.join(lines))
    with pytest.MonkeyPatch.context() as patch:
        for reader, name, labels in (
            (datasets.CIFAR10, 'cifar10', 'labels'),
            (datasets.CIFAR100, 'cifar100', 'fine_labels'),
        ):
            write_cifar(patch, reader, root / name, labels)
        yield root


def write_cifar(patch: pytest.MonkeyPatch, reader: type, root: Path, labels: str) -> None:
    """Twelve images to train on and three for testing, of which torchvision is told the sums."""
    folder = root / reader.base_folder
    folder.mkdir(parents=True)
    sums = {}
    for part, size in (('train', 12), ('test', 3), ('meta', 0)):
        content = {'data': np.zeros((size, 3072), np.uint8), labels: [i % 3 for i in range(size)]}
        path = folder / part
        path.write_bytes(pickle.dumps(content if size else {'names': CLASSES}))
        sums[part] = hashlib.md5(path.read_bytes()).hexdigest()
    patch.setattr(reader, 'train_list', [['train', sums['train']]])
    patch.setattr(reader, 'test_list', [['test', sums['test']]])
    patch.setattr(reader, 'meta', {'filename': 'meta', 'key': 'names', 'md5': sums['meta']})


def small_options(config: Config, images: Path) -> dict[str, object]:
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
        'auto_scale_lr.base_batch_size': batch * accumulated,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
        'optim_wrapper.type': 'OptimWrapper',
    }
    if 'erase' in config.train_dataloader.dataset:
        options['train_dataloader.dataset.erase.image_size'] = SIDE
    for step in range(len(config.val_dataloader.dataset.pipeline)):
        options[f'val_dataloader.dataset.pipeline.{step}.size'] = SIDE
    if 'warmup' in config.param_scheduler:
        options['param_scheduler.warmup'] = 0
    for loader, part in (('train_dataloader', 'train'), ('val_dataloader', 'val')):
        if 'list_file' in config[loader].dataset.source:
            options[f'{loader}.dataset.source.list_file'] = images / f'{part}.txt'
    family = next(name for name in SMALLER if name in config.model.backbone.model_name)
    for name, value in SMALLER[family].items():
        options[f'model.backbone.{name}'] = value
    return options


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_a_recipe_takes_two_steps_and_is_evaluated(path, images, tmp_path):
    config = Config.fromfile(path)
    options = [
        f'{key}={value}'.replace(' ', '') for key, value in small_options(config, images).items()
    ]
    work_dir = str(tmp_path / 'run')
    arguments = ['--work-dir', work_dir, '--data-root', str(images), '--cfg-options', *options]
    train([str(path), *arguments])
    logged = read_scalars(Path(work_dir))
    losses = [line['loss'] for line in logged if 'loss' in line]
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    # Where four batches of one image make a step, the 12 images are three.
    assert len(losses) == (3 if accumulated == 4 else 2) * accumulated
    assert np.isfinite(losses).all()
    stage = 'stage4_' if 'mhead' in path.name else ''
    assert any(f'accuracy/{stage}top1' in line for line in logged)
    optimizer = torch.load(tmp_path / 'run/latest.pth', weights_only=False)['optimizer']
    trained = sum(len(group['params']) for group in optimizer['param_groups'])
    assert len(optimizer['state']) == trained  # every parameter had a gradient
