"""Which optimisers skip on the device, and that a skipped step leaves no trace in them."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from a2mim.engine import guard
from a2mim.engine.guard import prefer_fused, skips_on_device


def step(parameter: nn.Parameter, optimizer: Optimizer, grad: float, skip: bool) -> None:
    parameter.grad = torch.full_like(parameter, grad)
    optimizer.found_inf = torch.tensor(float(skip))
    optimizer.step()
    del optimizer.found_inf


FUSED = [
    (AdamW, dict(lr=0.1)),
    (Adam, dict(lr=0.1, amsgrad=True)),
    (SGD, dict(lr=0.1)),
    (SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
]


@pytest.mark.parametrize('kind, options', FUSED)
@pytest.mark.parametrize('bad', [0, 1, 2])
def test_steps_with_one_skipped_equal_the_others_alone(kind, options, bad):
    ends = []
    for grads in ([1.0, -2.0, 3.0], [1.0, -2.0, 3.0]):
        parameter = nn.Parameter(torch.ones(3))
        optimizer = kind([parameter], fused=True, **options)
        assert skips_on_device(optimizer)
        for index, grad in enumerate(grads):
            if ends and index == bad:
                continue
            step(parameter, optimizer, float('nan') if index == bad else grad, index == bad)
        ends.append((parameter.detach(), optimizer.state_dict()['state']))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_sgd_prepared_for_a_skip_moves_as_torchs_own():
    ends = []
    for prepared in (True, False):
        parameter = nn.Parameter(torch.ones(3))
        optimizer = SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.1, fused=True)
        if prepared:
            skips_on_device(optimizer)
        for grad in (1.0, -2.0):
            parameter.grad = torch.full_like(parameter, grad)
            optimizer.step()
        ends.append(parameter.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    'kind, options',
    [
        (AdamW, dict(fused=False)),
        (AdamW, dict()),
        (SGD, dict(lr=0.1, momentum=0.9, dampening=0.1, fused=True)),
        (torch.optim.RMSprop, dict()),
    ],
)
def test_any_other_optimiser_has_to_be_told_by_the_host(kind, options):
    assert not skips_on_device(kind([nn.Parameter(torch.ones(1))], **options))


@pytest.mark.parametrize('foreach, switched', [(None, True), (False, True), (True, False)])
def test_on_a_gpu_a_loaded_optimiser_goes_on_fused_unless_it_is_to_be_otherwise(
    monkeypatch, foreach, switched
):
    monkeypatch.setattr(guard, 'WORTH_IT', ('cpu',))
    parameter = nn.Parameter(torch.ones(3))
    optimizer = AdamW([parameter], foreach=foreach)
    parameter.grad = torch.ones(3)
    optimizer.step()
    prefer_fused(optimizer)
    assert skips_on_device(optimizer) is switched
    if switched:
        before = parameter.detach().clone(), copy.deepcopy(optimizer.state_dict()['state'])
        step(parameter, optimizer, float('nan'), skip=True)
        after = parameter.detach(), optimizer.state_dict()['state']
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        step(parameter, optimizer, 1.0, skip=False)
        assert optimizer.state[parameter]['step'] == 2


def test_on_the_cpu_the_form_stays_as_it_is():
    optimizer = AdamW([nn.Parameter(torch.ones(1))])
    before = copy.deepcopy(optimizer.state_dict())
    prefer_fused(optimizer)
    assert optimizer.state_dict() == before
