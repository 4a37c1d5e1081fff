"""Probes, and the run from scratch beside them, are the published ones, number for number.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import math
from functools import cache

import pytest
import torch
from mmengine import Config
from torch import nn

from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS
from finetune_recipes import FINETUNE
from recipes import rates

R18, R50, DEIT, VIT = 'resnet18', 'resnet50', 'deit_small_patch16_224', 'beit_base_patch16_224'
STEP, COS = 'WarmupStepLR', 'OverlapCosineLR'
PROBES = {  # trunk, classes, (GPUs, batch), workers, rate, schedule, epochs
    'imagenet/r18_linear_sz224_4xb64_step_ep100': (R18, 1000, (4, 64), 6, 30, STEP, 100),
    'imagenet/r50_linear_sz224_4xb64_step_ep100': (R50, 1000, (4, 64), 6, 30, STEP, 100),
    'imagenet100/r18_linear_sz224_4xb64_step_ep100': (R18, 100, (4, 64), 6, 30, STEP, 100),
    'imagenet100/r50_linear_sz224_4xb64_step_ep100': (R50, 100, (4, 64), 6, 30, STEP, 100),
    'imagenet/vit_small_p16_linear_sz224_8xb128_cos_ep90': (VIT, 1000, (8, 128), 8, 12, COS, 90),
    'imagenet/vit_small_p16_linear_sz224_8xb128_step_ep90': (VIT, 1000, (8, 128), 8, 12, STEP, 90),
    'imagenet100/vit_small_p16_linear_sz224_8xb128_cos_ep90': (VIT, 100, (8, 128), 8, 12, COS, 90),
    'cifar10/r18_linear_sz224_4xb64_cos_ep100': (R18, 10, (4, 64), 4, 0.1, COS, 100),
    'cifar10/r18_linear_sz224_4xb64_step_ep100': (R18, 10, (4, 64), 4, 0.1, STEP, 100),
    'cifar10/r50_linear_sz224_4xb64_cos_ep100': (R50, 10, (4, 64), 4, 0.1, COS, 100),
    'cifar100/r18_linear_sz224_4xb64_cos_ep100': (R18, 100, (4, 64), 4, 1.0, COS, 100),
    'cifar100/r18_linear_sz224_4xb64_step_ep100': (R18, 100, (4, 64), 4, 1.0, STEP, 100),
    'cifar100/r50_linear_sz224_4xb64_cos_ep100': (R50, 100, (4, 64), 4, 0.1, COS, 100),
    'cifar100/deit_small_p16_linear_sz224_4xb128_cos_ep100': (
        (DEIT, 100, (4, 128), 8, 1.0, COS, 100)
    ),
    'stl10/deit_small_p16_linear_sz96_4xb128_cos_ep100': (DEIT, 10, (4, 128), 8, 1.0, COS, 100),
    'stl10/r50_linear_sz96_4xb64_cos_ep100': (R50, 10, (4, 64), 4, 1.0, COS, 100),
    'stl10/r50_linear_sz96_4xb64_step_ep100': (R50, 10, (4, 64), 4, 1.0, STEP, 100),
}
STAGES = 'imagenet100/r50_mhead_sz224_4xb64_step_ep90'
SCRATCH = ['cifar10/r18_sz32_bs100_cos_ep200', 'cifar100/r18_sz32_bs100_cos_ep200']
IMAGENET_LEVELS = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CIFAR_LEVELS = (
    [255 * share for share in (0.4914, 0.4822, 0.4465)],
    [255 * share for share in (0.2023, 0.1994, 0.201)],
)
every_probe = pytest.mark.parametrize('file', PROBES)


def read(file: str) -> Config:
    return Config.fromfile(FINETUNE.parent / f'{file}.py')


@cache
def built(file: str) -> nn.Module:
    """The model without its numbers."""
    with torch.device('meta'):
        return MODELS.build(read(file).model)


@every_probe
def test_every_number_is_the_published_one(file):
    config, loader = read(file), read(file).train_dataloader
    gpus = config.auto_scale_lr.base_batch_size // loader.batch_size
    assert (
        config.model.backbone.model_name,
        config.model.backbone.num_classes,
        (gpus, loader.batch_size),
        loader.num_workers,
        config.optim_wrapper.optimizer.lr,
        config.param_scheduler.type,
        config.train_cfg.max_epochs,
    ) == PROBES[file]
    assert 'accumulative_counts' not in config.optim_wrapper


def test_no_shipped_probe_is_left_out():
    found = FINETUNE.parent.rglob('*_linear_*_ep*.py')
    assert {f'{path.parent.name}/{path.stem}' for path in found} == PROBES.keys()


@every_probe
def test_sgd_with_momentum_and_no_decay_moves_the_linear_layer_alone(file):
    wrapper = read(file).optim_wrapper
    (group,) = ParamRuleConstructor(dict(optimizer=wrapper.optimizer)).param_groups(built(file))
    head = 'fc' if 'resnet' in PROBES[file][0] else 'head'
    assert [name for name, _ in group['params']] == [
        f'backbone.model.{head}.weight',
        f'backbone.model.{head}.bias',
    ]
    assert group['weight_decay'] == 0.0
    assert wrapper.optimizer.type == 'SGD'
    assert wrapper.optimizer.momentum == 0.9
    assert 'clip_grad' not in wrapper


@every_probe
def test_the_trunk_is_frozen_in_evaluation_mode(file):
    model = built(file).train()
    assert not any(module.training for module in model.backbone.modules())


@every_probe
def test_vits_of_the_paper_alone_run_in_mixed_precision(file):
    assert (read(file).optim_wrapper.type == 'AmpOptimWrapper') == ('vit_small' in file)


@every_probe
def test_losses_are_the_published_ones(file):
    config = read(file)
    mixing = config.model.data_preprocessor.get('mixup')
    if 'deit' in file:
        classes = config.model.backbone.num_classes
        assert mixing == dict(
            mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=classes
        )
        assert config.model.loss == dict(type='SoftTargetCrossEntropy')
        return
    assert mixing is None
    smoothing = dict(label_smoothing=0.1) if 'vit_small' in file else {}
    assert config.model.loss == dict(type='CrossEntropyLoss', **smoothing)


@pytest.mark.parametrize('file', [*PROBES, *SCRATCH])
def test_pixels_are_normalised_as_published(file):
    levels = read(file).model.data_preprocessor
    mean, std = CIFAR_LEVELS if file.startswith('cifar') else IMAGENET_LEVELS
    assert levels.mean == pytest.approx(mean)
    assert levels.std == pytest.approx(std)


@every_probe
def test_the_rate_falls_in_the_published_epochs(file):
    *_, lr, schedule, epochs = PROBES[file]
    points = [(0, 0), (3, 2), (59, 9), (60, 0), (79, 9), (80, 0), (epochs - 1, 9)]
    found = rates(read(file), 10, [10 * epoch + step for epoch, step in points])
    if schedule == STEP:
        assert found == pytest.approx([lr, lr, lr, lr / 10, lr / 10, lr / 100, lr / 100])
        return
    # The same within an epoch, and never quite 0.
    expected = [lr / 2 * (1 + math.cos(math.pi * epoch / epochs)) for epoch, _ in points]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize('file', [file for file in PROBES if 'resnet' not in PROBES[file][0]])
def test_transformers_are_read_at_their_class_token_behind_the_last_norm(file):
    model = built(file).backbone.model
    assert model.global_pool == 'token'
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.fc_norm, nn.Identity)


def test_the_probed_vit_s_is_the_one_of_pre_training():
    model = built('imagenet/vit_small_p16_linear_sz224_8xb128_cos_ep90').backbone.model
    trunk = sum(p.numel() for p in model.parameters()) - (768 * 1000 + 1000)
    assert trunk == 48_057_600 - 768  # but for the mask token


def test_probes_of_all_stages_are_the_published_ones():
    config = read(STAGES)
    assert config.model.num_classes == 100
    assert config.model.loss == dict(type='CrossEntropyLoss')
    assert [read[0].output_size for read in built(STAGES).readers] == [6, 4, 3, 2]
    assert config.optim_wrapper.type == 'OptimWrapper'
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    found = rates(config, 10, [0, 299, 300, 599, 600, 899])
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize('file', SCRATCH)
def test_resnet_18_learns_cifar_from_scratch_as_published(file):
    config = read(file)
    assert config.optim_wrapper.type == 'OptimWrapper'
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    assert (config.train_dataloader.batch_size, config.auto_scale_lr.base_batch_size) == (100, 100)
    assert config.train_cfg.max_epochs == 200
    assert config.model.backbone.num_classes == (10 if 'cifar10/' in file else 100)
    assert all(p.requires_grad for p in built(file).parameters())
    found = rates(config, 500, [0, 499, 500 * 100, 500 * 199])
    last = 0.05 * (1 + math.cos(math.pi * 199 / 200))
    assert found == pytest.approx([0.1, 0.1, 0.05, last])


def test_the_last_stage_sees_16_positions_of_an_image_of_32_pixels():
    trunk = built(SCRATCH[0]).backbone.model
    image = torch.zeros(1, 3, 32, 32, device='meta')
    assert trunk.forward_features(image).shape == (1, 512, 4, 4)
