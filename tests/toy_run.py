"""A run of seconds with real components: twelve images, three classes, timm's smallest backbone.

ConvNeXt has no batch statistics, so that two processes can be compared with one.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from mmengine import Config
from PIL import Image

ROOT = Path(__file__).parents[1]
CLASSES = ('red', 'green', 'blue')


def write_images(root: Path, per_class: int) -> None:
    """Class folders of 32-pixel images, each of its own colour and noise."""
    rng = np.random.default_rng(per_class)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            image = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8)
            image[..., label] += 100
            Image.fromarray(image).save(root / name / f'{index}.png')


def loader(root: Path, batch_size: int, shuffle: bool) -> dict:
    """A data loader without workers."""
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='EpochSampler', shuffle=shuffle),
        collate_fn=dict(type='a2mim.channels_last_collate'),
        dataset=dict(
            type='ImageDataset',
            source=dict(type='ImageFolder', root=str(root), with_labels=True),
            pipeline=[dict(type='RandomFlip')] if shuffle else [],
        ),
    )


def toy_config(data: Path, **changes: object) -> Config:
    """Fine-tuning in four epochs of three batches; ``changes`` are dotted names, as in the tools.

    ``__`` stands for the dot.
    """
    cfg = Config(
        dict(
            default_scope='a2mim',
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='TimmBackbone', model_name='test_convnext', num_classes=3),
                loss=dict(type='CrossEntropyLoss'),
                data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
            ),
            train_dataloader=loader(data / 'train', 4, shuffle=True),
            val_dataloader=loader(data / 'val', 2, shuffle=False),
            val_evaluator=dict(type='Accuracy', topk=(1, 2)),
            val_cfg=dict(),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3),
                clip_grad=dict(max_norm=5.0),
            ),
            param_scheduler=[
                dict(type='CosineAnnealingLR', T_max=4, by_epoch=True, convert_to_iter_based=True)
            ],
            train_cfg=dict(by_epoch=True, max_epochs=4),
            auto_scale_lr=dict(base_batch_size=4, enable=False),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
            ),
            randomness=dict(seed=0),
        )
    )
    cfg.merge_from_dict({name.replace('__', '.'): value for name, value in changes.items()})
    return cfg


def load_tool(name: str, folder: str = 'tools') -> ModuleType:
    """A program in ``tools/`` or another folder of the repository as a module."""
    path = ROOT / folder / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_scalars(work_dir: Path) -> list[dict]:
    """What every run in ``work_dir`` logged, in order."""
    lines = [
        line
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text(encoding='utf-8').splitlines()
    ]
    return [Config.fromstring(line, '.json').to_dict() for line in lines]
