"""Layer by layer, how fast the parameters of fine-tuned transformers learn: as published.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

from collections import Counter
from functools import cache

import pytest
import torch
from mmengine import Config

from a2mim.engine.optimizers import ParamRuleConstructor
from a2mim.registry import MODELS
from finetune_recipes import FINETUNE

SWIN_T = 'swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100'
SWIN_B = 'swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100'
MAE_B = 'vit_base_p16_swin_ft_mae_sz224_8xb128_cos_ep100'
BEIT = 'beit_base_p16_ft_sz224_8xb128_cos_ep100'
DEPTHS = {SWIN_T: (2, 2, 6, 2), SWIN_B: (2, 2, 18, 2)}


@cache
def options_of(stem: str) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of every parameter, by its name in timm."""
    config = Config.fromfile(FINETUNE / f'{stem}.py')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    wrapper = config.optim_wrapper
    constructor = ParamRuleConstructor(
        dict(optimizer=wrapper.optimizer), wrapper.get('paramwise_cfg')
    )
    return {
        name.removeprefix('backbone.model.'): (group['lr'], group['weight_decay'])
        for group in constructor.param_groups(model)
        for name, _ in group['params']
    }


def sizes(stem: str) -> dict[tuple[float, float], int]:
    """Parameters per (learning rate, weight decay), rates to seven digits."""
    return Counter((float(f'{rate:.7g}'), decay) for rate, decay in options_of(stem).values())


def groups(lr: float, decay: float, layers: list[tuple[int, int]]) -> dict:
    """The same for layers, stem first, of so many decaying and other parameters."""
    expected = {}
    for height, (decaying, others) in enumerate(reversed(layers)):
        rate = float(f'{lr * decay**height:.7g}')
        expected[rate, 0.05], expected[rate, 0.0] = decaying, others
    return expected


@pytest.mark.parametrize(
    'stem, lr, blocks, stem_layer, block',
    [  # The rest is norm, head, and their biases.
        (MAE_B, 4e-3, 12, (1, 3), (4, 8)),
        ('vit_large_p16_swin_ft_mae_sz224_8xb128_cos_ep100', 2e-3, 24, (1, 3), (4, 8)),
        ('vit_huge_p14_swin_ft_mae_sz224_8xb128_cos_ep50', 2e-3, 32, (1, 3), (4, 8)),
        # 12 beside the weights: a table, two scales, and biases of queries and values
        ('vit_base_p16_swin_ft_cae_sz224_4xb128_accu2_cos_ep100', 8e-3, 12, (1, 3), (4, 10)),
        ('deit_small_p16_swin_ft_sz224_4xb256_cos_ep100', 8e-3, 12, (1, 3), (4, 12)),
        (BEIT, 4e-3, 12, (1, 2), (4, 12)),
    ],
)
def test_vits_decay_by_065_per_block(stem, lr, blocks, stem_layer, block):
    assert sizes(stem) == groups(lr, 0.65, [stem_layer, *[block] * blocks, (1, 3)])


@pytest.mark.parametrize('stem', DEPTHS)
def test_swins_decay_by_09_per_block(stem):
    layers = [(1, 3)]
    for stage, depth in enumerate(DEPTHS[stem]):
        layers += [(4, 9)] * depth
        if stage < 3:  # what merges the patches, one weight and a norm, is of the last block
            layers[-1] = (4 + 1, 9 + 2)
    assert sizes(stem) == groups(5e-3, 0.9, [*layers, (1, 3)])


@pytest.mark.parametrize(
    'stem, name, layer, decays',
    [
        (SWIN_T, 'patch_embed.norm.weight', 0, False),
        (SWIN_T, 'layers.0.blocks.0.attn.qkv.weight', 1, True),
        (SWIN_T, 'layers.0.blocks.1.attn.relative_position_bias_table', 2, False),
        (SWIN_T, 'layers.1.downsample.reduction.weight', 2, True),
        (SWIN_T, 'layers.1.blocks.0.mlp.fc1.weight', 3, True),
        (SWIN_T, 'layers.3.downsample.norm.weight', 10, False),
        (SWIN_T, 'layers.3.blocks.1.mlp.fc2.bias', 12, False),
        (SWIN_T, 'norm.weight', 13, False),
        (SWIN_T, 'head.fc.weight', 13, True),
        (SWIN_B, 'layers.2.blocks.1.mlp.fc1.weight', 6, True),
        (SWIN_B, 'layers.2.blocks.17.norm2.bias', 22, False),
        (SWIN_B, 'layers.3.downsample.reduction.weight', 22, True),
        (SWIN_B, 'layers.3.blocks.0.attn.proj.weight', 23, True),
    ],
)
def test_these_parameters_of_swins_are_in_these_layers(stem, name, layer, decays):
    last = sum(DEPTHS[stem]) + 1
    expected = (pytest.approx(5e-3 * 0.9 ** (last - layer)), 0.05 if decays else 0.0)
    assert options_of(stem)[name] == expected


@pytest.mark.parametrize(
    'stem', ['r50_swin_ft_sz224_4xb256_accu2_cos_ep100', 'r50_ft_sz224_4xb256_accu2_cos_ep100']
)
def test_every_layer_of_a_resnet_learns_at_one_rate(stem):
    # The norms of the four short cuts have names that no rule knows: their weights decay.
    assert sizes(stem) == {(5e-3, 0.05): 53 + 4 + 1, (5e-3, 0.0): 49 + 53 + 1}


def test_the_head_learns_faster_than_the_trunk_where_labels_are_few():
    found = options_of('imagenet_per_10/r50_sz224_4xb64_head100_lr0_01_step_ep20')
    fast = {name for name, options in found.items() if options == (1.0, 1e-4)}
    assert fast == {'fc.weight', 'fc.bias'}
    assert {options for name, options in found.items() if name not in fast} == {(0.01, 1e-4)}
