"""The shipped fine-tuning recipes on ImageNet-1K are the published ones, number for number."""

import math
from functools import cache

import pytest
import torch
from mmengine import Config
from timm.layers import DropPath
from torch import nn

from a2mim.datasets import RepeatedEpochSampler
from a2mim.registry import MODELS, PARAM_SCHEDULERS
from finetune_recipes import FINETUNE, RECIPES, facts_of, read

IMAGENET = 1_281_167  # training images
every_recipe = pytest.mark.parametrize('stem', RECIPES)


@cache
def built(stem: str) -> nn.Module:
    """The model without its numbers."""
    with torch.device('meta'):
        return MODELS.build(read(stem).model)


@every_recipe
def test_every_number_is_the_published_one(stem):
    found = facts_of(read(stem))
    assert found.keys() == RECIPES[stem].keys()
    assert found == {
        name: pytest.approx(value) if name in ('lr', 'mu') and value else value
        for name, value in RECIPES[stem].items()
    }


def test_no_shipped_recipe_with_such_a_name_is_left_out():
    pattern = ('*_rsb_a[23]_*', '*_simmim_*', '*_spark_*')
    found = {path.stem for name in pattern for path in FINETUNE.glob(f'{name}.py')}
    assert found == RECIPES.keys()


@every_recipe
def test_all_run_in_mixed_precision_and_are_tested_after_every_epoch(stem):
    config = read(stem)
    assert config.optim_wrapper.type == 'AmpOptimWrapper'
    assert config.train_cfg.val_interval == 1
    assert config.default_hooks.checkpoint == dict(
        type='CheckpointHook', interval=10, max_keep_ckpts=1
    )


@pytest.mark.parametrize(
    'stem, size',
    [  # in the published table, in millions: 25.6, 44.5, 60.2, 64.7, 48.8, 86.7, 304.6, …
        ('r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300', 25_557_032),
        ('r101_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300', 44_549_160),
        ('r152_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100', 60_192_808),
        ('r200_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300', 64_673_832),
        ('vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100', 48_825_832),
        ('vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100', 86_682_280),
        ('vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100', 304_632_296),
        ('convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400', 28_589_128),
        ('convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300', 50_223_688),
        ('convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300', 88_591_464),
    ],
)
def test_models_have_the_published_size(stem, size):
    assert sum(p.numel() for p in built(stem).parameters()) == size


@every_recipe
def test_paths_are_dropped_with_a_rate_that_rises_from_0_to_the_published_one(stem):
    model = built(stem).backbone.model
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    per_block = 2 if stem.startswith('vit') else 1  # attention and MLP
    blocks = sum(len(stage) for stage in stages_of(model))
    expected = torch.linspace(0, RECIPES[stem]['drop_path'], blocks)[1:]  # none at rate 0
    expected = expected[expected > 0].repeat_interleave(per_block)
    assert rates == pytest.approx(expected.tolist())


def stages_of(model: nn.Module) -> list[nn.Module]:
    if hasattr(model, 'layer1'):
        return [model.layer1, model.layer2, model.layer3, model.layer4]
    return [stage.blocks for stage in model.stages] if hasattr(model, 'stages') else [model.blocks]


def test_vits_average_their_patches_and_have_both_kinds_of_positions():
    for size in ('small', 'base', 'large'):
        stem = next(name for name in RECIPES if name.startswith(f'vit_{size}'))
        model = built(stem).backbone.model
        assert model.global_pool == 'avg'
        assert isinstance(model.fc_norm, nn.LayerNorm)
        assert model.fc_norm.eps == 1e-6
        assert isinstance(model.norm, nn.Identity)
        assert model.pos_embed.shape[1] == 1 + 14 * 14
        for block in model.blocks:
            assert block.attn.relative_position_bias_table is not None
            assert block.gamma_1.shape == (model.embed_dim,)


def epoch_length(config: Config) -> int:
    """Iterations per epoch on as many GPUs as the name tells."""
    loader, (gpus, batch, _) = config.train_dataloader, facts_of(config)['batch']
    images = math.ceil(IMAGENET / gpus)
    if loader.sampler.type == 'RepeatedEpochSampler':
        images = IMAGENET // 256 * 256 // gpus
        assert len(RepeatedEpochSampler(range(IMAGENET), seed=0)) == images * gpus
    return math.ceil(images / batch)


@every_recipe
def test_epochs_have_the_published_length(stem):
    gpus, batch, _ = RECIPES[stem]['batch']
    published = {2048: 626, 1024: 1252, 512: 2503}[gpus * batch]
    if RECIPES[stem]['repeats'] == 3:
        published = {626: 626, 2503: 2502}[published]  # the published sampler rounds down
    assert epoch_length(read(stem)) == published


def rate_at(config: Config, iteration: int, share: float = 1.0) -> float:
    """Learning rate of a group with that share of the full one, as the Runner would set it."""
    rate = config.optim_wrapper.optimizer.lr * share
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], rate)
    scheduler = PARAM_SCHEDULERS.build(
        {**config.param_scheduler, 'end': config.train_cfg.max_epochs},
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length(config)),
    )
    scheduler._global_step = scheduler.last_step = iteration - 1
    scheduler.step()
    return optimizer.param_groups[0]['lr']


@every_recipe
def test_the_learning_rate_follows_the_published_curve(stem):
    config, row = read(stem), RECIPES[stem]
    length = epoch_length(config)
    base, least = row['lr'], row['eta_min']
    (warmup, ratio), total = (row['warmup'][0] * length, row['warmup'][1]), row['epochs'] * length
    for i in (0, 1, warmup // 2 + 7, warmup - 1, warmup, total // 2, total // 2 + 99, total - 1):
        if row['schedule'] == 'WarmupCosineLR':
            progress, rise = (i - warmup) / (total - warmup), i / warmup
        else:
            progress = i // length / row['epochs'] if row['stairs'] else i / total
            rise = 1 - (1 - i / warmup) * (1 - ratio)
        regular = least + 0.5 * (base - least) * (1 + math.cos(math.pi * progress))
        assert rate_at(config, i) == pytest.approx(regular * min(rise, 1))


@pytest.mark.parametrize(
    'stem, values',
    [  # by epoch
        ('r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300', {0: 5e-8, 5: 4.996574e-3, 150: 2.5005e-3}),
        ('r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100', {0: 8e-8, 5: 7.950759e-3, 50: 4.0005e-3}),
        (
            'vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100',
            {0: 0.0, 10: 4.809718e-3, 20: 1e-2, 60: 5.0005e-3},
        ),
        (
            'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300',
            {0: 4e-8, 5: 3.997260e-3, 150: 2.0005e-3},
        ),
        (
            'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400',
            {0: 4e-9, 200: 2.005e-4},
        ),
    ],
)
def test_learning_rates_of_some_epochs_are_these(stem, values):
    config = read(stem)
    found = [rate_at(config, epoch * epoch_length(config)) for epoch in values]
    assert found == pytest.approx(list(values.values()), rel=1e-6)


def test_the_lowest_layers_of_a_vit_l_end_faster_than_they_start():
    config = read('vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100')
    length, share = epoch_length(config), 0.65**25
    assert rate_at(config, 20 * length, share) == pytest.approx(2.103e-7, rel=2e-4)
    assert rate_at(config, 100 * length - 1, share) == pytest.approx(1e-6)


def test_the_loss_of_rsb_is_summed_over_classes_and_its_targets_are_not_cut():
    loss = built('r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100').classifier_loss
    logits, target = torch.randn(4, 1000), torch.rand(4, 1000)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction='sum') / 4
    torch.testing.assert_close(loss(logits, target), expected)
