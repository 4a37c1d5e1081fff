"""Sharded tensors become whole ones in a checkpoint, and shares again."""

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from a2mim.engine.sharding import WholeStates


def trained(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.fixture
def sharded(group) -> tuple[nn.Module, torch.optim.Optimizer, WholeStates]:
    model = fully_shard(network())
    states, optimizer = WholeStates(model), trained(model)
    states.attach(optimizer)
    return model, optimizer, states


def test_states_are_those_of_a_plain_model_while_gathered(sharded):
    model, optimizer, states = sharded
    plain = network()
    expected = trained(plain).state_dict()
    with states.gathered():
        weights, found = model.state_dict(), optimizer.state_dict()
    assert [*weights] == [*plain.state_dict()]
    for name, tensor in plain.state_dict().items():
        assert type(weights[name]) is torch.Tensor
        torch.testing.assert_close(weights[name], tensor)
    assert found['param_groups'] == expected['param_groups']
    for index, moments in expected['state'].items():
        for name, value in moments.items():
            assert type(found['state'][index][name]) is torch.Tensor
            torch.testing.assert_close(found['state'][index][name], value)


def test_states_are_shares_otherwise(sharded):
    model, optimizer, states = sharded
    with states.gathered():
        pass
    assert isinstance(model.state_dict()['0.weight'], DTensor)
    assert isinstance(optimizer.state_dict()['state'][0]['exp_avg'], DTensor)


def test_whole_states_are_loaded_as_shares(sharded):
    model, optimizer, _ = sharded
    plain = network()
    nn.init.constant_(plain[0].weight, 3.0)
    other = trained(plain)
    model.load_state_dict(plain.state_dict())
    optimizer.load_state_dict(other.state_dict())
    weight = model.state_dict()['0.weight']
    assert isinstance(weight, DTensor)
    assert torch.equal(weight.full_tensor(), plain[0].weight)
    moment = optimizer.state[optimizer.param_groups[0]['params'][0]]['exp_avg']
    assert isinstance(moment, DTensor)
    assert torch.equal(moment.full_tensor(), other.state[plain[0].weight]['exp_avg'])


def test_the_wrapper_may_be_told_twice(sharded):
    _, optimizer, states = sharded
    states.attach(optimizer)
    assert len(optimizer._optimizer_state_dict_post_hooks) == 1


def test_a_tensor_of_another_shape_is_left_to_the_error_of_torch(sharded):
    model, *_ = sharded
    with pytest.raises(RuntimeError, match=r'size mismatch for 0\.weight'):
        model.load_state_dict({**network().state_dict(), '0.weight': torch.zeros(9, 9)})
