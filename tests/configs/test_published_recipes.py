"""The shipped recipes are the published ones, number for number.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

from a2mim.checkpoint import to_a2mim
from a2mim.engine.optim import ParamRuleConstructor
from a2mim.registry import MODELS, PARAM_SCHEDULERS

TESTS = Path(__file__).parents[1]
CONFIGS = TESTS.parent / 'configs/openmixup'
PRETRAIN = CONFIGS / 'pretrain'
BASES = PRETRAIN / '_base_'
R50_300 = 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py'
R50_100 = 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100.py'
VIT_BASE = 'a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800.py'
CONVNEXT_S = 'a2mim/imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300.py'
SIMMIM_R50 = 'simmim/imagenet/r50_sz224_8xb256_fp16_ep300.py'
FINETUNE = '../finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100.py'
IMAGENET = 1_281_167  # training images


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    init_default_scope('a2mim')
    yield
    DefaultScope._instance_dict.popitem()


def built(model: dict) -> nn.Module:
    with torch.device('meta'):
        return MODELS.build(model)


def groups_of(model: nn.Module, wrapper: dict) -> list[dict]:
    constructor = ParamRuleConstructor(
        dict(optimizer=wrapper['optimizer']), wrapper['paramwise_cfg']
    )
    return constructor.param_groups(model)


@pytest.mark.parametrize(
    'base, trunk, decoder',
    [
        ('r50', 23_510_080, 6_294_528),
        ('r101', 42_502_208, 6_294_528),
        ('r152', 58_145_856, 6_294_528),
        ('r200', 62_626_880, 6_294_528),
        ('convnext_t', 27_821_664, 2_362_368),
        ('convnext_s', 49_456_224, 2_362_368),
        ('convnext_b', 87_568_512, 3_148_800),
        ('vit_small', 48_057_600, 590_592),
        ('vit_base', 85_914_048, 590_592),
        ('vit_large', 303_608_320, 787_200),
    ],
)
def test_models_have_the_published_size(base, trunk, decoder):
    model = built(Config.fromfile(BASES / f'models/a2mim/{base}.py').model)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.backbone, model.neck)]
    assert sizes == [trunk, decoder]


def test_the_fine_tuned_resnet_has_the_published_size():
    model = built(Config.fromfile(PRETRAIN / FINETUNE).model)
    assert sum(p.numel() for p in model.parameters()) == 25_557_032


@pytest.mark.parametrize(
    'path, sizes',
    [
        (R50_300, {(1.2e-4, 0.0): 1, (1.2e-3, 0.05): 59, (1.2e-3, 0.0): 103}),
        (R50_100, {(1.2e-4, 0.0): 2, (1.2e-3, 0.05): 58, (1.2e-3, 0.0): 103}),
        (CONVNEXT_S, {(1.2e-4, 0.0): 2, (1.2e-3, 0.05): 154, (1.2e-3, 0.0): 190}),
        (VIT_BASE, {(4e-4, 0.05): 50, (4e-4, 0.0): 151}),
        (SIMMIM_R50, {(8e-4, 0.05): 58, (8e-4, 0.0): 104}),
        (FINETUNE, {(8e-3, 0.02): 58, (8e-3, 0.0): 103}),
    ],
)
def test_groups_have_the_published_sizes(path, sizes):
    config = Config.fromfile(PRETRAIN / path)
    groups = groups_of(built(config.model), config.optim_wrapper)
    assert {
        (round(group['lr'], 12), group['weight_decay']): len(group['params']) for group in groups
    } == sizes


@pytest.mark.parametrize(
    'name, schedule',
    [('r50', R50_100), ('convnext_t', CONVNEXT_S), ('vit_small', VIT_BASE)],
)
def test_every_parameter_has_its_published_rate_and_decay(name, schedule):
    groups = json.loads((TESTS / 'data/optim/published_groups.json').read_text())[name]
    published = {
        key: torch.tensor([group['lr'], group['weight_decay']], dtype=torch.double)
        for group in groups
        for key in group['params']
    }
    expected = {key: options.tolist() for key, options in to_a2mim(published).items()}
    model = built(Config.fromfile(BASES / f'models/a2mim/{name}.py').model)
    ours = {
        key: pytest.approx([group['lr'], group['weight_decay']])
        for group in groups_of(model, Config.fromfile(PRETRAIN / schedule).optim_wrapper)
        for key, _ in group['params']
    }
    assert expected == ours


def rates(path: str, iterations: list[int]) -> list[float]:
    """Learning rate of the fastest group in some iterations, as the Runner would set it."""
    config = Config.fromfile(PRETRAIN / path)
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    epoch_length = math.ceil(IMAGENET / (2048 // accumulated))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], config.optim_wrapper.optimizer.lr)
    scheduler = PARAM_SCHEDULERS.build(
        {**config.param_scheduler, 'end': config.train_cfg.max_epochs},
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )
    found = []
    for iteration in iterations:
        scheduler._global_step = scheduler.last_step = iteration - 1
        scheduler.step()
        found.append(optimizer.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize(
    'path, values',
    [
        (R50_300, {0: 0.0, 626: 1.19717426e-4, 6260: 1.2e-3, 93900: 6.37212651e-4}),
        (R50_300, {187799: 1.00000001e-5}),
        # 100 epochs: the middle of the annealing is half way between rate and minimum.
        (R50_100, {6260: 1.2e-3, (6260 + 62600) // 2: (1.2e-3 + 1e-5) / 2}),
        (CONVNEXT_S, {6260: 1.2e-3, 187799: 1.00000001e-5}),
        # Two iterations per step of the published count.
        (VIT_BASE, {0: 8e-10, 2 * 3130: 2.000004e-4, 2 * 6260: 4e-4, 1252 * 700: 4e-5}),
        (SIMMIM_R50, {0: 0.0, 6260: 8e-4}),
        (FINETUNE, {0: 8e-8, 62599: 2.973512e-6}),
    ],
)
def test_learning_rates_are_the_published_ones(path, values):
    assert rates(path, list(values)) == pytest.approx(list(values.values()), rel=3e-6)


@pytest.mark.parametrize(
    'path, per_process, length', [(R50_300, 256, 626), (VIT_BASE, 128, 1252), (FINETUNE, 512, 626)]
)
def test_epochs_have_the_published_length(path, per_process, length):
    config = Config.fromfile(PRETRAIN / path)
    assert config.train_dataloader.batch_size == per_process
    processes = 4 if '4xb' in path else 8
    assert math.ceil(IMAGENET / (processes * per_process)) == length


@pytest.mark.parametrize(
    'path, scale, epochs', [(R50_300, 0.8, 25), (R50_100, 0.8, 10), (VIT_BASE, 0.67, 25)]
)
def test_crops_and_pictures_are_the_published_ones(path, scale, epochs):
    config = Config.fromfile(PRETRAIN / path)
    assert config.train_dataloader.dataset.pipeline[0].scale == (scale, 1.0)
    assert config.default_hooks.reconstruction.interval == epochs


@pytest.mark.parametrize('path', [R50_300, R50_100, VIT_BASE, CONVNEXT_S, SIMMIM_R50])
def test_30_of_49_blocks_are_hidden(path):
    config = Config.fromfile(PRETRAIN / path)
    assert config.train_dataloader.dataset.mask == dict(
        type='BlockMask', image_size=224, block_size=32, ratio=0.6
    )


def test_only_vits_clip_their_gradients():
    clips = {
        path: Config.fromfile(PRETRAIN / path).optim_wrapper.get('clip_grad')
        for path in (R50_300, R50_100, CONVNEXT_S, SIMMIM_R50, VIT_BASE)
    }
    assert clips.pop(VIT_BASE) == dict(max_norm=5.0)
    assert set(clips.values()) == {None}


def test_mixed_precision_is_where_it_was_published():
    amp = {
        path
        for path in (R50_300, R50_100, VIT_BASE, CONVNEXT_S, SIMMIM_R50, FINETUNE)
        if Config.fromfile(PRETRAIN / path).optim_wrapper.type == 'AmpOptimWrapper'
    }
    assert amp == {CONVNEXT_S, SIMMIM_R50, FINETUNE}


def test_the_fine_tuning_loss_is_summed_over_classes_and_not_thresholded():
    loss = built(Config.fromfile(PRETRAIN / FINETUNE).model).classifier_loss
    logits, target = torch.randn(4, 1000), torch.rand(4, 1000)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction='sum') / 4
    torch.testing.assert_close(loss(logits, target), expected)
