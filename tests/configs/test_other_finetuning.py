"""Fine-tuning beside the headline recipes is as published: Swin, MAE, CAE, BEiT, DeiT-S, ResNet-50.

Sources of the numbers: tests/data/README.md, "Recipes". Rates of single layers are in
``test_finetune_layers.py``.
"""

import math
from functools import cache

import pytest
import torch
from mmengine import Config
from torch import nn

from a2mim.registry import MODELS
from finetune_recipes import FINETUNE, TIMM, facts_of
from recipes import rates

RESNET = TIMM | dict(
    lr=5e-3,
    weight_decay=0.05,
    layer_decay=None,
    clip=None,
    schedule='OverlapCosineLR',
    warmup=(20, 2e-4),
    epochs=100,
    drop_path=0.0,
    head_std=0.01,
    workers=8,
    mu=None,
)
SWIN = RESNET | dict(batch=(4, 128, 4), layer_decay=0.9, clip=5.0, drop_path=0.1)
SWIN_192 = SWIN | dict(size=192, resize=219)
VIT = RESNET | dict(
    batch=(8, 128, 1),
    layer_decay=0.65,
    clip=5.0,
    schedule='WarmupCosineLR',
    warmup=(5, 0.0),
    drop_path=0.1,
)
MAE_B = 'vit_base_p16_swin_ft_mae_sz224_8xb128_cos_ep100'
MAE_L = 'vit_large_p16_swin_ft_mae_sz224_8xb128_cos_ep100'
MAE_H = 'vit_huge_p14_swin_ft_mae_sz224_8xb128_cos_ep50'
CAE = 'vit_base_p16_swin_ft_cae_sz224_4xb128_accu2_cos_ep100'
BEIT = 'beit_base_p16_ft_sz224_8xb128_cos_ep100'
DEIT = 'deit_small_p16_swin_ft_sz224_4xb256_cos_ep100'
SWIN_T_100 = 'swin_tiny_swin_ft_sz224_4xb256_accu2_cos_ep100'
SWIN_B = 'swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100'
PLAIN = 'r50_ft_sz224_4xb256_accu2_cos_ep100'
RECIPES = {
    MAE_B: VIT | dict(lr=4e-3),
    MAE_L: VIT | dict(lr=2e-3),
    MAE_H: VIT | dict(lr=2e-3, epochs=50, drop_path=0.3),
    CAE: VIT | dict(lr=8e-3, batch=(4, 128, 2)),
    BEIT: VIT | dict(lr=4e-3, schedule='OverlapCosineLR', warmup=(5, 1e-4)),
    DEIT: VIT | dict(lr=8e-3, batch=(4, 256, 1)),
    'swin_tiny_swin_ft_sz192_4xb128_accu4_cos_ep100': SWIN_192,
    'swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100': SWIN,
    'swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100': SWIN_192,
    SWIN_B: SWIN,
    SWIN_T_100: SWIN | dict(batch=(4, 256, 2)),
    'r50_swin_ft_sz192_4xb512_accu1_cos_ep100': RESNET
    | dict(batch=(4, 512, 1), size=192, resize=219),
    'r50_swin_ft_sz224_4xb256_accu2_cos_ep100': RESNET | dict(batch=(4, 256, 2)),
    'r50_swin_ft_sz224_8xb128_accu2_cos_ep100': RESNET | dict(batch=(8, 128, 2), workers=4),
}
ON_100_CLASSES = [MAE_B, DEIT, SWIN_B, SWIN_T_100, *(n for n in RECIPES if n.startswith('r50'))]
FILES = [f'imagenet/{stem}' for stem in RECIPES if stem != SWIN_T_100]
FILES += [f'imagenet100/{stem}' for stem in ON_100_CLASSES]
PLAIN_FILES = [f'imagenet/{PLAIN}', f'imagenet100/{PLAIN}']
every_recipe = pytest.mark.parametrize('file', FILES)


def read(file: str) -> Config:
    return Config.fromfile(FINETUNE.parent / f'{file}.py')


@cache
def trunk(stem: str) -> nn.Module:
    """The timm model on ImageNet-1K, or ImageNet-100 where there is no other, without numbers."""
    folder = 'imagenet100' if stem == SWIN_T_100 else 'imagenet'
    with torch.device('meta'):
        return MODELS.build(read(f'{folder}/{stem}').model).backbone.model


@every_recipe
def test_every_number_is_the_published_one(file):
    assert facts_of(read(file)) == RECIPES[file.split('/')[1]]


@every_recipe
def test_all_but_swin_run_in_mixed_precision(file):
    mixed = read(file).optim_wrapper.type == 'AmpOptimWrapper'
    assert mixed == ('swin_tiny' not in file and 'swin_base' not in file)


@pytest.mark.parametrize('file', FILES + PLAIN_FILES)
def test_model_and_mixing_know_the_classes_of_the_images(file):
    config = read(file)
    classes = 100 if file.startswith('imagenet100/') else 1000
    assert config.model.backbone.num_classes == classes
    if config.model.data_preprocessor.get('mixup'):
        assert config.model.data_preprocessor.mixup.num_classes == classes
    lists = dict(type='ImageList', root='data/ImageNet/train')
    lists['list_file'] = 'data/meta/ImageNet100/train_labeled.txt'
    folders = dict(type='ImageFolder', root='data/ImageNet/train', with_labels=True)
    assert config.train_dataloader.dataset.source == (lists if classes == 100 else folders)


@pytest.mark.parametrize('file', PLAIN_FILES)
def test_plain_fine_tuning_differs_in_images_and_loss_alone(file):
    config = read(file)
    twin = read(file.replace('r50_ft', 'r50_swin_ft'))
    for part in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr'):
        assert config[part] == twin[part]
    loaders = [
        (c.train_dataloader.batch_size, c.train_dataloader.num_workers) for c in (config, twin)
    ]
    assert loaders == [(256, 10), (256, 8)]
    assert config.model.loss == dict(type='CrossEntropyLoss')
    assert 'mixup' not in config.model.data_preprocessor
    assert [t.type for t in config.train_dataloader.dataset.pipeline] == [
        'RandomResizedCrop',
        'RandomFlip',
    ]


@pytest.mark.parametrize('file', [f for f in FILES + PLAIN_FILES if '/r50' in f])
def test_resnets_keep_their_batch_statistics_per_gpu(file):
    assert 'sync_bn' not in read(file)


@pytest.mark.parametrize(
    'stem, size',
    [
        (MAE_B, 86_567_656),
        (MAE_L, 304_326_632),
        (MAE_H, 632_045_800),
        (CAE, 86_682_280 - 12 * 2 * 768),  # SimMIM's without the biases of queries and values
        (BEIT, 86_682_280 - 197 * 768),  # SimMIM's without absolute positions
        (
            DEIT,
            21_688_992 - 384 + 52 * 384 + 12 * 200 * 6 + 385_000,
        ),  # trunk at 192 pixels, enlarged
        ('swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100', 28_288_354),
        (SWIN_B, 87_768_224),
        ('r50_swin_ft_sz224_4xb256_accu2_cos_ep100', 25_557_032),
    ],
)
def test_models_have_the_published_size(stem, size):
    assert sum(p.numel() for p in trunk(stem).parameters()) == size


@pytest.mark.parametrize(
    'stem, patch, drop', [(MAE_B, 16, 0.1), (MAE_L, 16, 0.1), (MAE_H, 14, 0.3)]
)
def test_vits_of_mae_average_their_patches_and_know_absolute_positions_only(stem, patch, drop):
    model = trunk(stem)
    assert model.global_pool == 'avg'
    assert isinstance(model.norm, nn.Identity)
    assert model.fc_norm.eps == 1e-6
    assert model.pos_embed.shape[1] == 1 + (224 // patch) ** 2
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(drop)
    names = {name.split('.')[-1] for name, _ in model.named_parameters()}
    assert names == {'cls_token', 'pos_embed', 'weight', 'bias'}


def test_cae_has_both_positions_and_no_bias_of_queries_keys_and_values():
    model = trunk(CAE)
    assert model.pos_embed.shape[1] == 197
    assert model.blocks[0].attn.relative_position_bias_table.shape == (732, 12)
    assert model.blocks[0].attn.q_bias is None
    assert model.blocks[0].attn.qkv.bias is None


def test_beit_has_relative_positions_only_and_averages_its_patches():
    model = trunk(BEIT)
    assert model.pos_embed is None
    assert model.blocks[0].attn.relative_position_bias_table.shape == (732, 12)
    assert model.blocks[0].attn.q_bias is not None
    assert model.global_pool == 'avg'


def test_deit_s_reads_its_class_token_and_keeps_its_biases():
    model = trunk(DEIT)
    assert (model.embed_dim, len(model.blocks), model.global_pool) == (384, 12, 'token')
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.fc_norm, nn.Identity)
    assert model.blocks[0].attn.q_bias.shape == (384,)
    assert model.blocks[0].attn.relative_position_bias_table.shape == (732, 6)
    assert model.blocks[0].mlp.fc1.out_features == 1536


@pytest.mark.parametrize('stem', [name for name in RECIPES if name.startswith('swin')])
def test_windows_of_swin_divide_the_features(stem):
    window = 6 if 'sz192' in stem else 7
    shapes = {len(p) for n, p in trunk(stem).named_parameters() if n.endswith('bias_table')}
    assert shapes == {(2 * window - 1) ** 2}


@pytest.mark.parametrize('stem', RECIPES | {PLAIN: None})
def test_the_learning_rate_follows_the_published_curve(stem):
    config = read(f'{"imagenet100" if stem == SWIN_T_100 else "imagenet"}/{stem}')
    row = RECIPES.get(stem, RESNET)
    length, base, (warmup, ratio) = 10, row['lr'], row['warmup']
    warmup, total = warmup * length, row['epochs'] * length
    iterations = [0, 1, warmup // 2, warmup - 1, warmup, total // 2 + 3, total - 1]
    expected = []
    for i in iterations:
        if row['schedule'] == 'WarmupCosineLR':
            progress, rise = (i - warmup) / (total - warmup), i / warmup
        else:
            progress, rise = i / total, 1 - (1 - i / warmup) * (1 - ratio)
        regular = 1e-6 + 0.5 * (base - 1e-6) * (1 + math.cos(math.pi * progress))
        expected.append(regular * min(rise, 1))
    assert rates(config, length, iterations) == pytest.approx(expected)


@pytest.mark.parametrize('percent, decay', [(1, 5e-4), (10, 1e-4)])
@pytest.mark.parametrize('head', [1, 10, 100])
@pytest.mark.parametrize('tag, lr', [('0_001', 0.001), ('0_01', 0.01), ('0_1', 0.1)])
def test_runs_with_few_labels_differ_in_the_rates_of_trunk_and_head(percent, decay, head, tag, lr):
    folder = f'imagenet/imagenet_per_{percent}'
    config = read(f'{folder}/r50_sz224_4xb64_head{head}_lr{tag}_step_ep20')
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=lr, momentum=0.9, weight_decay=decay
    )
    rules = config.optim_wrapper.get('paramwise_cfg', dict(rules={}))['rules']
    assert rules == ({'[.]fc[.]': dict(lr_mult=head)} if head > 1 else {})
    source = config.train_dataloader.dataset.source
    assert source.list_file == f'data/meta/ImageNet/train_labeled_{percent}percent.txt'
    assert config.model.loss == dict(type='CrossEntropyLoss')
    assert config.sync_bn == 'torch'
    found = rates(config, 10, [0, 119, 120, 159, 160, 199])
    assert found == pytest.approx([lr, lr, lr / 5, lr / 5, lr / 25, lr / 25])
