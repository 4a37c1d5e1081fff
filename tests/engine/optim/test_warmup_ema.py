import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from a2mim.engine.optim import WarmupEMA


def test_the_momentum_rises_linearly_from_nine_tenths():
    average = WarmupEMA(nn.Linear(1, 1), momentum=1e-4, warmup_iters=100)
    kept = [1 - average.momentum_at(step) for step in (0, 50, 100, 200)]
    assert kept == pytest.approx([0.9 * 0.9999, 0.95 * 0.9999, 0.9999, 0.9999])


def test_an_update_mixes_by_that_momentum():
    model = nn.Linear(1, 1, bias=False)
    average = WarmupEMA(model, momentum=0.01, warmup_iters=10)
    start = model.weight.item()
    average.update_parameters(model)  # the first update copies
    model.weight.data += 1
    average.update_parameters(model)
    moved = average.module.weight.item() - start
    assert moved == pytest.approx(1 - 0.99 * (1 - 0.9 * 0.1))


def test_buffers_are_copied():
    model = nn.BatchNorm1d(2)
    average = WarmupEMA(model, warmup_iters=10)
    for _ in range(2):
        model.running_mean += 1
        average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)


def test_mmengine_builds_it_by_name():
    config = dict(type='a2mim.WarmupEMA', model=nn.Linear(1, 1), warmup_iters=10)
    assert isinstance(MODELS.build(config), WarmupEMA)


def test_a_warm_up_of_no_iterations_is_refused():
    with pytest.raises(ValueError, match='warmup_iters=0'):
        WarmupEMA(nn.Linear(1, 1), warmup_iters=0)
