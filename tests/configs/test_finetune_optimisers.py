"""Every parameter of a fine-tuning recipe has its published learning rate and weight decay.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

from collections import Counter
from functools import cache

import pytest
import torch

from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS
from finetune_recipes import RECIPES, read

R50, R101, R152, R200 = 16, 33, 50, 66  # blocks
CONVNEXT_S = 36


@cache
def options_of(stem: str) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of every parameter, by its name in timm."""
    config = read(stem)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    wrapper = config.optim_wrapper
    constructor = ParamRuleConstructor(dict(optimizer=wrapper.optimizer), wrapper.paramwise_cfg)
    return {
        name.removeprefix('backbone.model.'): (group['lr'], group['weight_decay'])
        for group in constructor.param_groups(model)
        for name, _ in group['params']
    }


def sizes(stem: str) -> dict[tuple[float, float], int]:
    """Parameters per (learning rate, weight decay), rates to seven digits."""
    return Counter((float(f'{rate:.7g}'), decay) for rate, decay in options_of(stem).values())


@pytest.mark.parametrize('recipe', [name for name in RECIPES if name.startswith('r')])
def test_resnets_have_the_published_groups(recipe):
    blocks = {'r50': R50, 'r101': R101, 'r152': R152, 'r200': R200}[recipe.split('_')[0]]
    convs, row = 1 + 3 * blocks + 4, RECIPES[recipe]
    # The norms of the four short cuts have names that no rule knows: their weights decay.
    assert sizes(recipe) == {
        (row['lr'], 0.02): convs + 4 + 1,
        (row['lr'], 0.0): (convs - 4) + convs + 1,
    }


def vit_groups(blocks: int, lr: float = 1e-2, decay: float = 0.65) -> dict:
    """Patches, blocks and head: how many parameters decay, how many do not, and how fast."""
    groups = {}
    for layer in range(blocks + 2):
        rate = float(f'{lr * decay ** (blocks + 1 - layer):.7g}')
        counts = (1, 3) if layer in (0, blocks + 1) else (4, 12)
        groups[rate, 0.05], groups[rate, 0.0] = counts
    return groups


@pytest.mark.parametrize('recipe', [name for name in RECIPES if name.startswith('vit')])
def test_vits_have_the_published_groups(recipe):
    blocks = {'small': 8, 'base': 12, 'large': 24}[recipe.split('_')[1]]
    assert sizes(recipe) == vit_groups(blocks)


VIT_S, VIT_B, VIT_L = (
    next(name for name in RECIPES if name.startswith(f'vit_{size}'))
    for size in ('small', 'base', 'large')
)


@pytest.mark.parametrize(
    'recipe, name, rate, decays',
    [
        (VIT_S, 'cls_token', 2.071e-4, False),
        (VIT_S, 'blocks.0.mlp.fc1.weight', 3.186e-4, True),
        (VIT_S, 'blocks.7.gamma_1', 6.5e-3, False),
        (VIT_B, 'patch_embed.proj.weight', 3.697e-5, True),
        (VIT_B, 'pos_embed', 3.697e-5, False),
        (VIT_B, 'blocks.0.attn.relative_position_bias_table', 5.688e-5, False),
        (VIT_B, 'blocks.11.attn.qkv.weight', 6.5e-3, True),
        (VIT_B, 'blocks.11.norm2.weight', 6.5e-3, False),
        (VIT_B, 'fc_norm.weight', 1e-2, False),
        (VIT_B, 'head.weight', 1e-2, True),
        (VIT_L, 'patch_embed.proj.bias', 2.103e-7, False),
        (VIT_L, 'blocks.0.attn.proj.weight', 3.235e-7, True),
    ],
)
def test_these_parameters_of_vits_have_these_options(recipe, name, rate, decays):
    found = options_of(recipe)[name]
    assert found == (pytest.approx(rate, rel=2e-4), 0.05 if decays else 0.0)


@pytest.mark.parametrize(
    'recipe, blocks',
    [
        ('convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300', CONVNEXT_S),
        ('convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300', CONVNEXT_S),
        ('convnext_t_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100', 18),
    ],
)
def test_convnexts_have_the_published_groups(recipe, blocks):
    row = RECIPES[recipe]
    # Per block three weights decay, and six of norm, layer scale and biases do not. The norms of
    # stem and down-sampling have names that no rule knows: their weights decay.
    assert sizes(recipe) == {
        (row['lr'], row['weight_decay']): 3 * blocks + 2 + 3 * 2 + 1,
        (row['lr'], 0.0): 6 * blocks + 2 + 3 * 2 + 3,
    }


def test_the_layers_of_convnext_t_have_the_published_rates():
    # layer: (decaying, other) parameters; a block has (3, 6), stem and down-sampling (2, 2)
    layers = {0: (2, 2), 1: (9, 18), 2: (11, 20), 3: (11, 20), 4: (9, 18), 5: (9, 18), 6: (11, 20)}
    layers[7] = (1, 3)
    expected = {}
    for layer, (decaying, others) in layers.items():
        rate = float(f'{4e-4 * 0.7 ** (7 - layer):.7g}')
        expected[rate, 0.01], expected[rate, 0.0] = decaying, others
    assert sizes('convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400') == expected


@pytest.mark.parametrize(
    'name, layer, decays',
    [
        ('stem.0.weight', 0, True),
        ('stages.0.blocks.2.gamma', 1, False),
        ('stages.1.downsample.1.weight', 2, True),
        ('stages.1.blocks.0.norm.weight', 2, False),
        ('stages.2.downsample.0.bias', 3, False),
        ('stages.2.blocks.3.conv_dw.weight', 4, True),
        ('stages.2.blocks.8.mlp.fc2.bias', 5, False),
        ('stages.3.downsample.1.weight', 6, True),
        ('head.norm.weight', 7, False),
        ('head.fc.weight', 7, True),
    ],
)
def test_these_parameters_of_convnext_t_are_in_these_layers(name, layer, decays):
    found = options_of('convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400')[name]
    assert found == (pytest.approx(4e-4 * 0.7 ** (7 - layer)), 0.01 if decays else 0.0)
