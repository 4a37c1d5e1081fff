import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import nn

from a2mim.engine.optimizers import ParamRuleConstructor


def toy_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


def groups_of(model: nn.Module, **paramwise_cfg) -> dict[tuple[float, float], list[str]]:
    """{(lr, weight decay): names} for AdamW at lr 1 and weight decay 0.05."""
    optimizer = dict(type='AdamW', lr=1.0, weight_decay=0.05)
    wrapper = ParamRuleConstructor(dict(optimizer=optimizer), paramwise_cfg)(model)
    return {
        (group['lr'], group['weight_decay']): group['param_names']
        for group in wrapper.optimizer.param_groups
    }


def test_without_rules_all_parameters_share_one_group():
    assert groups_of(toy_model()) == {
        (1.0, 0.05): ['0.weight', '0.bias', '1.weight', '1.bias', '2.weight', '2.bias']
    }


def test_a_rule_is_searched_anywhere_in_the_name():
    groups = groups_of(toy_model(), rules={'ia': dict(weight_decay=0.0)})
    assert groups[1.0, 0.0] == ['0.bias', '1.bias', '2.bias']


def test_later_rules_win_option_by_option():
    rules = {'weight': dict(weight_decay=0.1, lr_mult=0.5), '^1': dict(weight_decay=0.0)}
    groups = groups_of(toy_model(), rules=rules)
    assert groups[0.5, 0.0] == ['1.weight']
    assert groups[0.5, 0.1] == ['0.weight', '2.weight']
    assert groups[1.0, 0.0] == ['1.bias']


def test_equal_options_of_different_rules_share_a_group():
    rules = {'bias': dict(weight_decay=0.0), '^1': dict(weight_decay=0.0)}
    assert len(groups_of(toy_model(), rules=rules)) == 2


def test_the_group_with_the_highest_rate_comes_first():
    # mmengine logs the rate of the first group.
    groups = groups_of(toy_model(), rules={'^0': dict(lr_mult=0.1)})
    assert next(iter(groups)) == (1.0, 0.05)


def test_frozen_parameters_are_left_out():
    model = toy_model()
    model[0].requires_grad_(False)
    assert groups_of(model) == {(1.0, 0.05): ['1.weight', '1.bias', '2.weight', '2.bias']}


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match='no trainable parameter'):
        groups_of(toy_model().requires_grad_(False))


@pytest.mark.parametrize(
    'paramwise_cfg, unknown',
    [
        (dict(custom_keys={}), 'custom_keys'),
        (dict(rules={'bias': dict(decay_mult=0.0)}), 'decay_m'),
    ],
)
def test_misspelt_options_are_refused(paramwise_cfg, unknown):
    with pytest.raises(KeyError, match=unknown):
        groups_of(toy_model(), **paramwise_cfg)


def test_a_broken_pattern_is_refused():
    with pytest.raises(ValueError, match='regular expression'):
        groups_of(toy_model(), rules={'(bias': dict(weight_decay=0.0)})


def test_an_optimiser_without_a_rate_is_refused():
    with pytest.raises(ValueError, match='must give lr'):
        ParamRuleConstructor(dict(optimizer=dict(type='AdamW')))


def test_a_distributed_model_gets_the_names_of_the_bare_one():
    class Wrapped(MMDistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:
            nn.Module.__init__(self)
            self.module = module

    assert groups_of(Wrapped(toy_model())) == groups_of(toy_model())


def test_the_config_reaches_optimiser_and_wrapper():
    wrapper = build_optim_wrapper(
        toy_model(),
        dict(
            type='OptimWrapper',
            constructor='a2mim.ParamRuleConstructor',
            optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), fused=True),
            clip_grad=dict(max_norm=5.0),
            accumulative_counts=2,
        ),
    )
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.optimizer.param_groups[0]['betas'] == (0.9, 0.95)
    assert wrapper.optimizer.param_groups[0]['fused']
    assert wrapper.clip_grad_kwargs == dict(max_norm=5.0)
    assert wrapper._accumulative_counts == 2


def test_the_state_of_the_groups_survives_a_resume():
    rules = {'bias': dict(weight_decay=0.0)}
    cfg = dict(optimizer=dict(type='AdamW', lr=1e-2, fused=True))
    first = ParamRuleConstructor(cfg, dict(rules=rules))(toy_model())
    second = ParamRuleConstructor(cfg, dict(rules=rules))(toy_model())
    model_loss = sum(p.sum() for group in first.optimizer.param_groups for p in group['params'])
    first.update_params(model_loss)
    second.load_state_dict(first.state_dict())
    state = second.optimizer.state_dict()['state']
    assert state.keys() == first.optimizer.state_dict()['state'].keys()
    assert all(entry['step'] == 1 for entry in state.values())


def test_the_log_tells_the_size_of_every_group(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'a2mim.engine.optimizers.print_log', lambda line, logger: lines.append(line)
    )
    groups_of(toy_model(), rules={'bias': dict(weight_decay=0.0)})
    assert lines == [
        'learning rate 1, weight decay 0.05: 3 of the trained tensors',
        'learning rate 1, weight decay 0: 3 of the trained tensors',
    ]
