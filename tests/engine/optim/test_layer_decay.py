import pytest
import timm
import torch
from torch import nn

from a2mim.engine.optimizers import ParamRuleConstructor, layer_lr_factors


def meta_model(name: str, **kwargs) -> nn.Module:
    with torch.device('meta'):
        return timm.create_model(name, **kwargs)


def paper_vit(depth: int = 12) -> nn.Module:
    return meta_model(
        'beit_base_patch16_224', depth=depth, use_abs_pos_emb=True, use_rel_pos_bias=True
    )


@pytest.mark.parametrize(
    'depth, name, rate',
    [  # base rate 1e-2, decay 0.65: the published rates
        (12, 'patch_embed.proj.weight', 3.697e-5),
        (12, 'cls_token', 3.697e-5),
        (12, 'pos_embed', 3.697e-5),
        (12, 'blocks.0.attn.relative_position_bias_table', 5.688e-5),
        (12, 'blocks.0.gamma_1', 5.688e-5),
        (12, 'blocks.11.mlp.fc2.bias', 6.5e-3),
        (12, 'fc_norm.weight', 1e-2),
        (12, 'head.weight', 1e-2),
        (8, 'patch_embed.proj.bias', 2.071e-4),
        (8, 'blocks.0.norm1.weight', 3.186e-4),
        (8, 'blocks.7.attn.q_bias', 6.5e-3),
        (24, 'patch_embed.proj.weight', 2.103e-7),
        (24, 'blocks.0.norm1.bias', 3.235e-7),
    ],
)
def test_the_paper_vits_decay_as_published(depth, name, rate):
    assert 1e-2 * layer_lr_factors(paper_vit(depth), 0.65)[name] == pytest.approx(rate, rel=2e-4)


CONVNEXT_TINY_LAYERS = [
    r'stem',
    r'stages\.0',
    r'stages\.1',
    r'stages\.2\.(?:downsample|blocks\.[0-2]\.)',
    r'stages\.2\.blocks\.[3-5]\.',
    r'stages\.2\.blocks\.[6-8]\.',
    r'stages\.3',
]


@pytest.mark.parametrize(
    'name, power',
    [  # published: 0.7 to the power of 7 minus the layer's number
        ('stem.1.bias', 7),
        ('stages.0.blocks.2.gamma', 6),
        ('stages.1.downsample.0.weight', 5),
        ('stages.1.blocks.0.conv_dw.weight', 5),
        ('stages.2.downsample.1.bias', 4),
        ('stages.2.blocks.2.norm.weight', 4),
        ('stages.2.blocks.3.mlp.fc1.weight', 3),
        ('stages.2.blocks.8.mlp.fc2.bias', 2),
        ('stages.3.downsample.0.bias', 1),
        ('stages.3.blocks.0.gamma', 1),
        ('head.norm.weight', 0),
        ('head.fc.weight', 0),
    ],
)
def test_layers_by_pattern_give_the_published_convnext_decay(name, power):
    factors = layer_lr_factors(meta_model('convnext_tiny'), 0.7, CONVNEXT_TINY_LAYERS)
    assert factors[name] == pytest.approx(0.7**power)


@pytest.mark.parametrize('name', ['resnet50', 'swin_tiny_patch4_window7_224', 'regnety_016'])
def test_every_parameter_of_other_families_has_a_factor(name):
    model = meta_model(name)
    factors = layer_lr_factors(model, 0.9)
    assert factors.keys() == dict(model.named_parameters()).keys()
    assert max(factors.values()) == 1
    assert len(set(factors.values())) > 4


def test_parameters_outside_the_timm_model_keep_the_full_rate():
    model = nn.ModuleDict(dict(trunk=timm.create_model('resnet10t'), token=nn.Linear(1, 1)))
    cfg = dict(optimizer=dict(type='AdamW', lr=1.0))
    groups = ParamRuleConstructor(cfg, dict(layer_decay=0.5)).param_groups(model)
    rates = {name: group['lr'] for group in groups for name, _ in group['params']}
    assert rates['token.weight'] == rates['trunk.fc.weight'] == 1
    assert rates['trunk.conv1.0.weight'] < 0.5


def test_decay_multiplies_with_the_rules():
    cfg = dict(optimizer=dict(type='AdamW', lr=1e-2))
    rules = {'cls_token': dict(lr_mult=0.1, weight_decay=0.0)}
    groups = ParamRuleConstructor(cfg, dict(layer_decay=0.65, rules=rules)).param_groups(
        paper_vit()
    )
    rates = {name: group['lr'] for group in groups for name, _ in group['params']}
    assert rates['cls_token'] == pytest.approx(1e-3 * 0.65**13)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match='group_matcher'):
        layer_lr_factors(nn.Linear(1, 1), 0.65)


@pytest.mark.parametrize('decay', [0, -0.1, 1.5])
def test_a_decay_that_is_no_decay_is_refused(decay):
    with pytest.raises(ValueError, match='layer_decay'):
        layer_lr_factors(nn.Linear(1, 1), decay)


def test_a_decay_of_zero_in_a_config_is_not_taken_for_none():
    constructor = ParamRuleConstructor(dict(optimizer=dict(lr=1.0)), dict(layer_decay=0))
    with pytest.raises(ValueError, match='layer_decay=0'):
        constructor.param_groups(nn.Linear(1, 1))


def test_layers_without_a_decay_are_refused():
    with pytest.raises(ValueError, match='without layer_decay'):
        ParamRuleConstructor(dict(optimizer=dict(lr=1.0)), dict(layers=['stem']))
