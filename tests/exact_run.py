"""Runs with every source of randomness, and the state that two of them must share.

Pixels are mixed, erased, masked and cropped at random, and blocks of the network are dropped.
"""

import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from a2mim.engine.checkpointing import CheckpointHook
from a2mim.engine.launch import unique_name
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.runner import ToolRunner
from toy_run import loader, toy_config

CROP = dict(type='RandomResizedCrop', size=32)
EPOCH = 5  # batches: 18 images, 4 at a time, the last batch with 2
# What a flavour adds to a run; the names are those of the matrix.
FLAVOURS = {
    'plain': dict(),
    'ema': dict(custom_hooks=[dict(type='WarmupEMAHook', momentum=0.1, warmup_epochs=1)]),
    'mmengine ema': dict(custom_hooks=[dict(type='EMAHook', momentum=0.1, update_buffers=True)]),
    'bf16': dict(optim_wrapper__type='AmpOptimWrapper', optim_wrapper__dtype='bfloat16'),
    # Five batches an epoch, two a step: a step joins two epochs.
    'accumulation': dict(optim_wrapper__accumulative_counts=2),
    'mae': dict(
        model=dict(
            _delete_=True,
            type='MAE',
            backbone=dict(
                type='TimmBackbone', model_name='test_vit', img_size=32, drop_path_rate=0.2
            ),
            neck=dict(type='MAEDecoder', width=16, depth=1, num_heads=2),
            data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
        )
    ),
}
PRE_TRAINING = ('bf16', 'accumulation', 'mae')


def fine_tuning(data: Path) -> dict:
    """Changes of the toy config that add all random draws of fine-tuning."""
    train = loader(data / 'train', 4, shuffle=True)
    train['dataset'].update(
        pipeline=[CROP, dict(type='RandomFlip')],
        erase=dict(type='RandomErasing', image_size=32, p=0.7),
    )
    return dict(
        model__backbone__drop_path_rate=0.3,
        model__loss=dict(type='SoftTargetCrossEntropy'),
        model__data_preprocessor__mixup=dict(
            mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=3
        ),
        train_dataloader=train,
    )


def pre_training(data: Path) -> dict:
    """The same for masked image modelling."""
    train = loader(data / 'train', 4, shuffle=True)
    train['dataset'] = dict(
        type='MaskedImageDataset',
        source=dict(type='ImageFolder', root=str(data / 'train')),
        pipeline=[CROP, dict(type='RandomFlip')],
        mask=dict(type='BlockMask', image_size=32, block_size=16, ratio=0.5),
    )
    model = dict(
        _delete_=True,
        type='A2MIM',
        backbone=dict(
            type='TimmBackbone',
            model_name='test_vit',
            mask_after='blocks.0',
            img_size=32,
            drop_path_rate=0.2,
        ),
        neck=dict(type='PixelShuffleDecoder'),
        head=dict(
            type='MIMHead',
            spatial=dict(type='L1Loss'),
            spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
        ),
        data_preprocessor=dict(type='ImagePreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    )
    no_validation = dict(val_dataloader=None, val_evaluator=None, val_cfg=None)
    return dict(model=model, train_dataloader=train, **no_validation)


class Witness(Hook):
    """Record the inputs and results of each step."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, torch.Tensor]] = {}
        self.validated: list[tuple[int, object]] = []
        self._step: dict[str, torch.Tensor] | None = None

    def before_train(self, runner: Runner) -> None:
        """Record the images after mixing and erasing."""
        model = getattr(runner.model, 'module', runner.model)
        model.data_preprocessor.register_forward_hook(self._seen)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        """Begin a step."""
        self._step = {f'batch {name}': value.clone() for name, value in data_batch.items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        """End a step."""
        self._step.update({name: value.detach() for name, value in outputs.items()})
        self.steps[runner.iter], self._step = self._step, None

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: object
    ) -> None:
        """Record validated inputs and their iteration."""
        self.validated.append((runner.iter, outputs))

    def _seen(self, module: torch.nn.Module, args: tuple, output: dict) -> None:
        if self._step is not None:
            tensors = {name: value for name, value in output.items() if isinstance(value, Tensor)}
            self._step.update({f'input {name}': value.clone() for name, value in tensors.items()})


def run(cfg: Config, *hooks: Hook) -> tuple[Runner, Witness]:
    """Train what ``cfg`` says, from another random state than any run before."""
    silence_harmless_warnings()
    system = random.SystemRandom()
    runner, witness = ToolRunner.from_cfg(cfg), Witness()
    for hook in (witness, *hooks):
        runner.register_hook(hook)
    random.seed(system.random())
    np.random.seed(system.randrange(2**32))
    torch.manual_seed(system.randrange(2**32))
    runner.train()
    return runner, witness


class SaveAt(Hook):
    """Save after some iterations, as a signal does."""

    priority = 'LOWEST'

    def __init__(self, iterations: tuple[int, ...]) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Save, if it is time to."""
        if runner.iter + 1 in self.iterations:
            next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook)).save_now(runner)


def differing(left: object, right: object, name: str = '') -> list[str]:
    """Where two nested states differ in any bit; the lists and dicts may hold anything."""
    if isinstance(left, dict | list | tuple) and type(left) is type(right):
        pairs = [
            dict(node.items() if isinstance(node, dict) else enumerate(node))
            for node in (left, right)
        ]
        return [
            found
            for key in sorted(pairs[0].keys() | pairs[1].keys(), key=str)
            for found in differing(pairs[0].get(key), pairs[1].get(key), f'{name}.{key}')
        ]
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and torch.equal(left, right)
    else:
        same = left == right
    return [] if same else [name]


def state(runner: Runner) -> dict[str, object]:
    """The state that a step passes on to the next."""
    averages = [hook.ema_model.state_dict() for hook in runner.hooks if hasattr(hook, 'ema_model')]
    return dict(
        weights=dict(runner.model.state_dict()),
        optimizer=runner.optim_wrapper.state_dict(),
        inner_count=runner.optim_wrapper.inner_count,
        schedulers=[dict(scheduler.state_dict()) for scheduler in runner.param_schedulers],
        averages=[dict(average) for average in averages],
    )


def config(data: Path, work_dir: Path, loop: str, flavour: str, **changes: object) -> Config:
    """A run of 3 epochs, with a checkpoint after the second."""
    by_epoch = loop == 'epochs'
    train_cfg = (
        dict(_delete_=True, by_epoch=True, max_epochs=3)
        if by_epoch
        else dict(_delete_=True, by_epoch=False, max_iters=3 * EPOCH, val_interval=4)
    )
    options = dict(
        work_dir=str(work_dir),
        experiment_name=unique_name(work_dir.name),
        train_cfg=train_cfg,
        default_hooks__logger__interval=3,
        default_hooks__checkpoint=dict(
            type='CheckpointHook',
            interval=2 if by_epoch else 2 * EPOCH,
            by_epoch=by_epoch,
            max_keep_ckpts=-1,
        ),
    )
    kind = (pre_training if flavour in PRE_TRAINING else fine_tuning)(data)
    # A copy: a config takes _delete_ out.
    own = deepcopy(FLAVOURS[flavour])
    return toy_config(data, **{**kind, **options, **own, **changes})
