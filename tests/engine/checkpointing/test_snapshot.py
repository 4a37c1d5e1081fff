"""A snapshot is apart from what it was taken of, and says as much."""

from collections import Counter, OrderedDict

import torch
from torch import nn

from a2mim.engine.training_state import snapshot


def test_nothing_of_the_state_is_shared_with_the_snapshot():
    state = dict(weights=[torch.ones(2)], curve=[1, 2], text='a', nested=dict(rate=0.5))
    copied = snapshot(state)
    state['weights'][0].zero_()
    state['curve'].append(3)
    state['nested']['rate'] = 1
    assert torch.equal(copied['weights'][0], torch.ones(2))
    assert (copied['curve'], copied['nested'], copied['text']) == ([1, 2], dict(rate=0.5), 'a')


def test_tied_weights_stay_one_tensor():
    weight = torch.ones(3)
    copied = snapshot(dict(one=weight, other=weight.detach(), view=weight[:2]))
    assert copied['one'] is copied['other']
    assert copied['view'].shape == (2,)


def test_the_milestones_of_a_schedule_are_kept():
    assert snapshot(Counter([8, 8, 11])) == Counter({8: 2, 11: 1})


def test_the_versions_of_layers_are_kept():
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    copied = snapshot(state)
    assert isinstance(copied, OrderedDict)
    assert copied._metadata == state._metadata


def test_layout_and_kind_of_tensors_are_kept():
    image = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    copied = snapshot([image, torch.tensor(3)])
    assert copied[0].is_contiguous(memory_format=torch.channels_last)
    assert (copied[0].dtype, copied[1].dtype) == (torch.bfloat16, torch.int64)
