"""Every parameter of a published recipe has its published learning rate and weight decay.

The sizes of all groups stand in tests/data/recipes/; here they are counted by the published rules.
Sources of the numbers: tests/data/README.md, "Recipes".
"""

import json
from pathlib import Path

import pytest
import torch

from a2mim.weights.names import to_a2mim
from recipe_facts import goldens
from recipes import PRETRAINING, built, groups_of, options_of, read

FINETUNE = 'openmixup/finetune/imagenet'
PUBLISHED_GROUPS = Path(__file__).parents[1] / 'data/optim/published_groups.json'
GOLDENS = goldens()
Groups = dict[tuple[float, float], int]  # (learning rate, weight decay): tensors

# Pre-training: blocks, then tensors that decay and that do not, each per block and beside blocks.
RESNET, CONVNEXT = ((3, 10), (6, 7)), ((4, 10), (5, 10))
VIT, SWIN = ((4, 2), (12, 7)), ((4, 5), (9, 13))
TRUNKS = {
    'r50': (16, RESNET),
    'r101': (33, RESNET),
    'r152': (50, RESNET),
    'r200': (66, RESNET),
    'convnext_t': (18, CONVNEXT),
    'convnext_s': (36, CONVNEXT),
    'convnext_b': (36, CONVNEXT),
    'vit_s': (8, VIT),
    'vit_b': (12, VIT),
    'vit_l': (24, VIT),
    'deit_s': (12, VIT),
    'swin_t': (12, SWIN),
    'swin_b': (24, SWIN),
}
# The factor on hidden features learns slowly and does not decay, but in these it has no rule.
GAMMA_DECAYS = [
    *(f'imagenet/r{depth}_l3_sz224_init_8xb256_cos_ep300' for depth in (50, 101, 152, 200)),
    'imagenet/r50_l3_sz224_init_1xb256_accu8_cos_ep300',
    'cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000',
]
# The published rule for norms names none of this network: two in a block and five beside.
NORMS_DECAY = ['imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800']


def sizes(name: str) -> Groups:
    return {(rate, decay): tensors for rate, decay, tensors in GOLDENS[name]['built.groups']}


def pretraining_groups(name: str) -> Groups:
    _, _, method, images, stem = name.split('/')
    blocks, counts = next(entry for trunk, entry in TRUNKS.items() if stem.startswith(trunk))
    decaying, free = (per_block * blocks + beside for per_block, beside in counts)
    slow = 0
    if counts in (RESNET, CONVNEXT):  # the token is slow in these trunks of A2MIM, else free
        slow, free = (1, free) if method == 'a2mim' else (0, free + 1)
    if GOLDENS[name].get('built.backbone.token.gamma'):
        without_rule = f'{images}/{stem}' in GAMMA_DECAYS
        decaying, slow = decaying + without_rule, slow + (not without_rule)
    if f'{images}/{stem}' in NORMS_DECAY:
        norms = 2 * blocks + 5  # their weights; biases have a rule of their own
        decaying, free = decaying + norms, free - norms
    if '_mlp_' in stem:  # a convolution and a norm more in the decoder
        decaying, free = decaying + 1, free + 2
    rate = GOLDENS[name]['optim_wrapper.optimizer.lr']
    groups = {(rounded(rate / 10), 0.0): slow, (rate, 0.05): decaying, (rate, 0.0): free}
    return {key: tensors for key, tensors in groups.items() if tensors}


def rounded(rate: float) -> float:
    """To seven digits, as the goldens have it."""
    return float(f'{rate:.7g}')


def test_pretraining_has_the_published_groups():
    for name in PRETRAINING:
        assert sizes(name) == pretraining_groups(name), name


def finetuning(*words: str) -> list[str]:
    """Recipes that train a whole model and have one of these words in their names."""
    folders = ('openmixup/finetune/imagenet/', 'openmixup/finetune/imagenet100/')
    names = [name for name in GOLDENS if name.startswith(folders) and '_linear_' not in name]
    return [name for name in names if any(word in name for word in words)]


def rate_and_decay(name: str) -> tuple[float, float]:
    """Of parameters without a rule."""
    keys = 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.weight_decay'
    rate, decay = (GOLDENS[name][key] for key in keys)
    return rate, decay


def test_every_layer_of_a_resnet_learns_at_one_rate():
    blocks = {'r50': 16, 'r101': 33, 'r152': 50, 'r200': 66}
    names = finetuning('/r50_ft', '/r50_swin_ft', *(f'/{trunk}_rsb_a' for trunk in blocks))
    assert len(names) == 16
    for name in names:
        convs = 1 + 3 * blocks[name.split('/')[-1].split('_')[0]] + 4
        rate, decay = rate_and_decay(name)
        # The norms of the four short cuts have names that no rule knows: their weights decay.
        expected = {(rate, decay): convs + 4 + 1, (rate, 0.0): (convs - 4) + convs + 1}
        assert sizes(name) == expected, name


def test_every_layer_of_a_convnext_but_the_tiny_one_learns_at_one_rate():
    names = finetuning('convnext_s_spark', 'convnext_b_spark', 'convnext_t_rsb')
    assert len(names) == 3
    for name in names:
        blocks = 18 if 'convnext_t' in name else 36
        rate, decay = rate_and_decay(name)
        # Per block three weights decay, and six of norm, layer scale and biases do not. The norms
        # of stem and down-sampling have names that no rule knows: their weights decay.
        assert sizes(name) == {
            (rate, decay): 3 * blocks + 2 + 3 * 2 + 1,
            (rate, 0.0): 6 * blocks + 2 + 3 * 2 + 3,
        }, name


def layered(
    rate: float, decay: float, layers: list[tuple[int, int]], weight_decay: float = 0.05
) -> Groups:
    """Groups of layers, stem first, of so many decaying and other tensors."""
    expected = {}
    for height, (decaying, others) in enumerate(reversed(layers)):
        layer_rate = rounded(rate * decay**height)
        expected[layer_rate, weight_decay], expected[layer_rate, 0.0] = decaying, others
    return expected


@pytest.mark.parametrize(
    'word, rate, blocks, stem, block',
    [  # The rest is norm, head, and their biases: (1, 3).
        ('vit_small_p16_swin_ft_simmim', 1e-2, 8, (1, 3), (4, 12)),
        ('vit_base_p16_swin_ft_simmim', 1e-2, 12, (1, 3), (4, 12)),
        ('vit_large_p16_swin_ft_simmim', 1e-2, 24, (1, 3), (4, 12)),
        ('vit_base_p16_swin_ft_mae', 4e-3, 12, (1, 3), (4, 8)),
        ('vit_large_p16_swin_ft_mae', 2e-3, 24, (1, 3), (4, 8)),
        ('vit_huge_p14_swin_ft_mae', 2e-3, 32, (1, 3), (4, 8)),
        # 12 beside the weights: a table, two scales, and biases of queries and values
        ('vit_base_p16_swin_ft_cae', 8e-3, 12, (1, 3), (4, 10)),
        ('deit_small_p16_swin_ft', 8e-3, 12, (1, 3), (4, 12)),
        ('beit_base_p16_ft', 4e-3, 12, (1, 2), (4, 12)),
    ],
)
def test_vits_decay_by_065_per_block(word, rate, blocks, stem, block):
    expected = layered(rate, 0.65, [stem, *[block] * blocks, (1, 3)])
    names = finetuning(f'/{word}_')
    assert names
    for name in names:
        assert sizes(name) == expected, name


@pytest.mark.parametrize('word, depths', [('tiny', (2, 2, 6, 2)), ('base', (2, 2, 18, 2))])
def test_swins_decay_by_09_per_block(word, depths):
    layers = [(1, 3)]
    for stage, depth in enumerate(depths):
        layers += [(4, 9)] * depth
        if stage < 3:  # what merges the patches, one weight and a norm, is of the last block
            layers[-1] = (4 + 1, 9 + 2)
    names = finetuning(f'/swin_{word}_swin_ft')
    assert names
    for name in names:
        assert sizes(name) == layered(5e-3, 0.9, [*layers, (1, 3)]), name


def test_the_layers_of_convnext_t_have_the_published_rates():
    # (decaying, other) tensors; a block has (3, 6), stem and down-sampling (2, 2)
    layers = [(2, 2), (9, 18), (11, 20), (11, 20), (9, 18), (9, 18), (11, 20), (1, 3)]
    expected = layered(4e-4, 0.7, layers, weight_decay=0.01)
    assert sizes(f'{FINETUNE}/{CONVNEXT_T}') == expected


VIT_S = 'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100'
VIT_B = 'vit_base_p16_swin_ft_simmim_sz224_4xb128_accu2_cos_ep100'
VIT_L = 'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100'
SWIN_T = 'swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100'
SWIN_B = 'swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100'
CONVNEXT_T = 'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400'
SINGLE = {  # recipe: (full rate, decay per layer, layers above the stem, weight decay)
    VIT_S: (1e-2, 0.65, 9, 0.05),
    VIT_B: (1e-2, 0.65, 13, 0.05),
    VIT_L: (1e-2, 0.65, 25, 0.05),
    SWIN_T: (5e-3, 0.9, 13, 0.05),
    SWIN_B: (5e-3, 0.9, 25, 0.05),
    CONVNEXT_T: (4e-4, 0.7, 7, 0.01),
}
PARAMETERS = {  # recipe: {name in timm: (layer, whether it decays)}
    VIT_S: {
        'cls_token': (0, False),
        'blocks.0.mlp.fc1.weight': (1, True),
        'blocks.7.gamma_1': (8, False),
    },
    VIT_B: {
        'patch_embed.proj.weight': (0, True),
        'pos_embed': (0, False),
        'blocks.0.attn.relative_position_bias_table': (1, False),
        'blocks.11.attn.qkv.weight': (12, True),
        'blocks.11.norm2.weight': (12, False),
        'fc_norm.weight': (13, False),
        'head.weight': (13, True),
    },
    VIT_L: {'patch_embed.proj.bias': (0, False), 'blocks.0.attn.proj.weight': (1, True)},
    SWIN_T: {
        'patch_embed.norm.weight': (0, False),
        'layers.0.blocks.0.attn.qkv.weight': (1, True),
        'layers.0.blocks.1.attn.relative_position_bias_table': (2, False),
        'layers.1.downsample.reduction.weight': (2, True),
        'layers.1.blocks.0.mlp.fc1.weight': (3, True),
        'layers.3.downsample.norm.weight': (10, False),
        'layers.3.blocks.1.mlp.fc2.bias': (12, False),
        'norm.weight': (13, False),
        'head.fc.weight': (13, True),
    },
    SWIN_B: {
        'layers.2.blocks.1.mlp.fc1.weight': (6, True),
        'layers.2.blocks.17.norm2.bias': (22, False),
        'layers.3.downsample.reduction.weight': (22, True),
        'layers.3.blocks.0.attn.proj.weight': (23, True),
    },
    CONVNEXT_T: {
        'stem.0.weight': (0, True),
        'stages.0.blocks.2.gamma': (1, False),
        'stages.1.downsample.1.weight': (2, True),
        'stages.1.blocks.0.norm.weight': (2, False),
        'stages.2.downsample.0.bias': (3, False),
        'stages.2.blocks.3.conv_dw.weight': (4, True),
        'stages.2.blocks.8.mlp.fc2.bias': (5, False),
        'stages.3.downsample.1.weight': (6, True),
        'head.norm.weight': (7, False),
        'head.fc.weight': (7, True),
    },
}


@pytest.mark.parametrize('stem', PARAMETERS)
def test_these_parameters_are_in_these_layers(stem):
    rate, decay, last, weight_decay = SINGLE[stem]
    options = options_of(f'{FINETUNE}/{stem}')
    expected = {
        name: (pytest.approx(rate * decay ** (last - layer)), weight_decay if decays else 0.0)
        for name, (layer, decays) in PARAMETERS[stem].items()
    }
    assert {name: options[name] for name in expected} == expected


def test_the_head_learns_faster_than_the_trunk_where_labels_are_few():
    options = options_of(f'{FINETUNE}/imagenet_per_10/r50_sz224_4xb64_head100_lr0_01_step_ep20')
    fast = {name for name, found in options.items() if found == (1.0, 1e-4)}
    assert fast == {'fc.weight', 'fc.bias'}
    assert {found for name, found in options.items() if name not in fast} == {(0.01, 1e-4)}


@pytest.mark.parametrize(
    'published, name',
    [
        ('r50', 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100'),
        ('convnext_t', 'a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300'),
        ('vit_small', 'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800'),
    ],
)
def test_every_parameter_has_its_published_rate_and_decay(published, name):
    options = {
        key: torch.tensor([group['lr'], group['weight_decay']], dtype=torch.double)
        for group in json.loads(PUBLISHED_GROUPS.read_text())[published]
        for key in group['params']
    }
    expected = {key: pair.tolist() for key, pair in to_a2mim(options).items()}
    config = read(f'openmixup/pretrain/{name}')
    ours = {
        key: pytest.approx([group['lr'], group['weight_decay']])
        for group in groups_of(config, built(config.model))
        for key, _ in group['params']
    }
    assert expected == ours
