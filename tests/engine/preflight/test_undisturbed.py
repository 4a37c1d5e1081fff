"""What is tried within the block leaves no trace."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from a2mim.engine.preflight import undisturbed


@pytest.fixture
def model() -> nn.Module:
    """Batch statistics, one part in another mode than the rest, and a gradient."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    model[0].bias.grad = torch.ones(4)
    return model


def disturb(model: nn.Module) -> None:
    model.train()
    model(torch.rand(8, 4) + np.random.rand() + random.random()).sum().backward()


def test_buffers_modes_and_gradients_are_put_back(model):
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with undisturbed(model):
        disturb(model)
        assert not torch.equal(model[1].running_mean, before['1.running_mean'])
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name])
    assert model[1].training and not model[2].training
    assert torch.equal(model[0].bias.grad, torch.ones(4))
    assert model[0].weight.grad is None


def test_random_numbers_go_on_where_they_were(model):
    def draw() -> tuple:
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = draw()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with undisturbed(model):
        disturb(model)
    assert draw() == expected


def test_an_error_leaves_no_trace_either(model):
    before = model[1].running_mean.clone()
    with pytest.raises(RuntimeError, match='tried'), undisturbed(model):
        disturb(model)
        raise RuntimeError('tried')
    assert torch.equal(model[1].running_mean, before)
