"""Loading says what came from where, and refuses what does not fit."""

import pytest
import timm
import torch
from torch import nn

from a2mim.weights.fit import Policy, load_weights


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


def test_everything_is_loaded_and_counted():
    source, module = two_layers(), two_layers()
    report = load_weights(module, source.state_dict())
    assert torch.equal(module[1].weight, source[1].weight)
    assert report.rate == 1
    assert str(report) == '4 tensors, 100% match'


def test_the_report_names_what_is_missing_and_what_is_not_used():
    state = two_layers().state_dict()
    state['head.bias'] = state.pop('1.bias')
    report = load_weights(two_layers(), state, Policy(min_match=0.7))
    assert (report.missing, report.unexpected) == (['1.bias'], ['head.bias'])
    assert str(report) == (
        '3 tensors, 75% match; 1 not in the file (1.bias); 1 not used (head.bias)'
    )


def test_too_little_is_refused_and_nothing_changed():
    module, state = two_layers(), two_layers().state_dict()
    before = module[0].weight.clone()
    del state['1.bias']
    with pytest.raises(ValueError, match=r'fit Sequential: 3 tensors.*1\.bias.*at least 90%'):
        load_weights(module, state)
    assert torch.equal(module[0].weight, before)


def test_another_shape_is_refused_however_much_matches():
    state = two_layers().state_dict()
    state['1.bias'] = torch.zeros(5)
    with pytest.raises(ValueError, match=r'1 of another shape \(1.bias \(5,\) for \(4,\)\)'):
        load_weights(two_layers(), state, Policy(min_match=0))


def test_a_deeper_model_does_not_pass_for_a_shallow_one():
    # Every tensor of a ResNet-50 is in a ResNet-101, with the same shape.
    with torch.device('meta'):
        deep, shallow = timm.create_model('resnet101'), timm.create_model('resnet50')
    with pytest.raises(ValueError, match=r'320 tensors, 51% match.*another architecture'):
        load_weights(shallow, deep.state_dict())


def test_step_counters_that_old_files_lack_do_not_count():
    norm = nn.BatchNorm2d(3)
    state = {key: value for key, value in norm.state_dict().items() if 'num_batches' not in key}
    assert load_weights(norm, state).rate == 1
