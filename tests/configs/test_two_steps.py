"""Every experiment trains for two optimiser steps and evaluates, by ``tools/train.py``.

The configs run as they are, on few and small images and with smaller trunks, all by options of the
command line, as a user would give them. It takes minutes in all, so it is marked slow.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from recipes import EXPERIMENTS, name_of
from toy_run import CLASSES, load_tool, read_scalars

pytestmark = pytest.mark.slow
train = load_tool('train').main
PER_CLASS, SIDE = 16, 64
IMAGES = PER_CLASS * len(CLASSES)
EMBEDDED, PER_EMBEDDED = {'PhotoPatches': 14, 'Digits': 10}, 2  # classes, images of each
SMALLER = {  # options of timm's families
    'resnet': dict(layers=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
    'convnext': dict(depths=[1, 1, 1, 1], dims=[8, 8, 16, 16]),
    'swin': dict(
        img_size=SIDE, window_size=2, depths=[1, 1, 1, 1], embed_dim=8, num_heads=[1, 1, 1, 1]
    ),
    # one recipe hides behind the seventh block
    'beit': dict(img_size=SIDE, depth=8, embed_dim=32, num_heads=2),
    'vit_': dict(img_size=SIDE, depth=1, embed_dim=32, num_heads=2),
    'deit': dict(img_size=SIDE, depth=1, embed_dim=32, num_heads=2),
}


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders in three parts, a list of each, and ``bands`` of five channels."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    (root / 'bands').mkdir()
    for index in range(IMAGES):
        bands = rng.integers(0, 256, (SIDE, SIDE, 5), dtype=np.uint8)
        np.save(root / f'bands/{index}.npy', bands)
    for part, per_class in (('train', PER_CLASS), ('val', 2), ('test', 2)):
        lines = []
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for index in range(per_class):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f'{index}.png')
                lines.append(f'{name}/{index}.png {label}\n')
        (root / f'{part}.txt').write_text(''.join(lines))
    return root


def small_options(config: Config, images: Path) -> dict[str, object]:
    """What makes a run of two steps of it."""
    embedded = EMBEDDED.get(config.train_dataloader.dataset.source.type, 0)
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    batch = (embedded * PER_EMBEDDED or IMAGES) // (2 * accumulated)
    options = {
        'train_dataloader.batch_size': batch,
        'auto_scale_lr.base_batch_size': batch * accumulated,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
    }
    if 'warmup' in config.param_scheduler:
        options['param_scheduler.warmup'] = 0
    for name in {'val_interval', 'val_begin'} & config.train_cfg.keys():
        options[f'train_cfg.{name}'] = 1
    for name, part in (('train_dataloader', 'train'), ('val_dataloader', 'val')):
        if config.get(name):
            options[f'{name}.num_workers'] = 0
            options |= dataset_options(config[name].dataset, f'{name}.dataset', images, part)
    for index, hook in enumerate(config.get('custom_hooks', [])):
        if hook.type == 'FeatureProbeHook':
            options[f'custom_hooks.{index}.neighbours'] = 2
            for part in ('train', 'test'):
                options[f'custom_hooks.{index}.{part}.source.labels_per_class'] = PER_EMBEDDED
    return options | model_options(config.model, embedded=embedded > 0)


def dataset_options(dataset: dict, path: str, images: Path, part: str) -> dict[str, object]:
    """Small images for a data set; a source that would fetch its data reads folders instead."""
    source, options = dataset.source, {}
    if dataset.type == 'TensorImageDataset':
        options[f'{path}.size'] = SIDE
    for index, step in enumerate(dataset.get('pipeline', [])):
        if 'size' in step:
            options[f'{path}.pipeline.{index}.size'] = SIDE
    for name in ('mask', 'erase'):
        if name in dataset:
            options[f'{path}.{name}.image_size'] = SIDE
    if source.type in ('CIFAR', 'SplitImageFolder'):
        options |= {f'{path}.source._delete_': True, f'{path}.source.type': 'ImageFolder'}
        options |= {f'{path}.source.root': part, f'{path}.source.with_labels': True}
    elif source.type == 'ImageList':
        options |= {f'{path}.source.list_file': images / f'{part}.txt'}
        options |= {f'{path}.source.root': part}
    elif source.type in EMBEDDED and part == 'train':
        options[f'{path}.source.labels_per_class'] = PER_EMBEDDED
    elif source.get('labels_per_class'):
        options[f'{path}.source.labels_per_class'] = PER_CLASS
    return options


def model_options(model: dict, *, embedded: bool) -> dict[str, object]:
    """A trunk of its family that is small, and as many classes as there are."""
    name = model.backbone.model_name
    family = next(family for family in SMALLER if family in name)
    options = {f'model.backbone.{key}': value for key, value in SMALLER[family].items()}
    if str(model.backbone.get('mask_after')).startswith('blocks.'):
        options['model.backbone.mask_after'] = 'blocks.0'
    if model.get('neck', {}).get('type') == 'UNetDecoder':
        options['model.neck.width'] = 64
    if isinstance(model.get('teacher'), dict):
        small = SMALLER['vit_'] | {'pretrained': False}  # without a network
        options |= {f'model.teacher.{key}': value for key, value in small.items()}
    if embedded:
        return options
    if model.backbone.get('num_classes'):
        options['model.backbone.num_classes'] = len(CLASSES)
    if model.get('num_classes'):
        options['model.num_classes'] = len(CLASSES)
    if model.data_preprocessor.get('mixup'):
        options['model.data_preprocessor.mixup.num_classes'] = len(CLASSES)
    return options


@pytest.mark.parametrize('path', EXPERIMENTS, ids=name_of)
def test_it_trains_two_steps_and_evaluates(path, images, tmp_path):
    config = Config.fromfile(path)
    source = config.train_dataloader.dataset.source
    pairs = small_options(config, images).items()
    options = [f'{key}={value}'.replace(' ', '') for key, value in pairs]
    root = [] if source.type in EMBEDDED else ['--data-root', str(images)]
    if source.get('channels') == 5:
        root = ['--data-root', str(images / 'bands')]
    if source.type == 'WebShards':
        load_tool('prepare_data/make_shards').main(
            [str(images / 'train'), str(tmp_path / 'shards')]
        )
        root = ['--data-root', str(tmp_path / 'shards')]
    train([str(path), '--work-dir', str(tmp_path), *root, '--cfg-options', *options])

    logged = read_scalars(tmp_path)
    losses = [line['loss'] for line in logged if 'loss' in line]
    assert len(losses) == 2 * config.optim_wrapper.get('accumulative_counts', 1)
    assert np.isfinite(losses).all()
    if config.get('val_evaluator'):
        assert any(name.startswith('accuracy/') for line in logged for name in line)
    optimizer = torch.load(tmp_path / 'latest.pth', weights_only=False)['optimizer']
    trained = sum(len(group['params']) for group in optimizer['param_groups'])
    assert len(optimizer['state']) == trained  # every parameter had a gradient
