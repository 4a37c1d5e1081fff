"""Residual branches that start at zero, in a run that has too few steps to open them."""

import pytest
import timm
import torch

from a2mim.engine import preflight


@pytest.mark.parametrize(
    ('model', 'options', 'number'),
    [
        ('resnet10t', {}, 4),
        ('resnet10t', {'zero_init_last': False}, 0),
        ('resnet50', {}, 16),
        ('regnety_002', {}, 13),
        ('convnext_atto', {}, 0),
        ('convnextv2_atto', {}, 0),
        ('vit_tiny_patch16_224', {}, 0),
        ('vit_tiny_patch16_224', {'init_values': 1e-5}, 0),
        ('efficientnet_b0', {}, 0),
    ],
)
def test_they_are_found_in_any_network(model, options, number):
    network = timm.create_model(model, **options)
    assert len(preflight.branch_scales(network)) == number


def test_layer_scales_count_up_to_a_size_that_is_given():
    network = timm.create_model('convnext_atto')
    assert len(preflight.branch_scales(network, largest=1e-6)) == 12


def test_what_is_frozen_or_loaded_is_none():
    network = timm.create_model('resnet18')
    network.layer1.requires_grad_(False)
    torch.nn.init.constant_(network.layer2[0].bn2.weight, 1e-9)
    names = [*preflight.branch_scales(network)]
    assert names[0] == 'layer2.1.bn2.weight'
    assert len(names) == 5


def test_a_short_run_is_told_and_a_long_one_is_not(build_runner, monkeypatch):
    runner, said = build_runner(model__backbone__model_name='resnet10t'), []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    preflight.warn_of_closed_branches(runner)
    assert '4 residual branches start at zero (backbone.model.layer1.0.bn2.weight, ' in said[0]
    assert '12 steps, less than 3000, are few to open them (' in said[0]
    assert 'model.backbone.zero_init_last=False' in said[0]
    assert '\n' not in said[0]
    monkeypatch.setattr(preflight, 'OPENING', 12)
    preflight.warn_of_closed_branches(runner)
    assert len(said) == 1
    runner.cfg.optim_wrapper.accumulative_counts = 3
    preflight.warn_of_closed_branches(runner)
    assert ' 4 steps, ' in said[1]
