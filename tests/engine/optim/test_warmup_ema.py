import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from a2mim.engine.averaging import WarmupEMA


def one_weight(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_the_momentum_rises_linearly_from_nine_tenths():
    average = WarmupEMA(nn.Linear(1, 1), momentum=1e-4, warmup_iters=100)
    kept = [1 - average.momentum_at(step) for step in (0, 50, 100, 200)]
    assert kept == pytest.approx([0.9 * 0.9999, 0.95 * 0.9999, 0.9999, 0.9999])


def test_an_update_mixes_by_that_momentum():
    model = one_weight()
    average = WarmupEMA(model, momentum=0.01, warmup_iters=10)
    average.update_parameters(model)  # the first update copies
    model.weight.data += 1
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(1 - 0.99 * (1 - 0.9 * 0.1))


def test_the_average_starts_at_the_weights_that_training_starts_from():
    model = one_weight()
    average = WarmupEMA(model, 1e-4, warmup_iters=10)
    nn.init.constant_(model.weight, 5.0)  # loaded after the average was built
    average.update_parameters(model)
    assert average.module.weight.item() == 5


@pytest.mark.parametrize('interval', [1, 2, 3])
def test_the_average_follows_every_optimiser_step_at_its_own_iteration(interval):
    model, warmup, mu = one_weight(), 8, 0.99
    average = WarmupEMA(model, 1 - mu, warmup_iters=warmup, interval=interval)
    expected = 0.0
    for iteration in range(12):
        if (iteration + 1) % interval == 0:  # the optimiser steps
            model.weight.data += iteration
            kept = mu * (1 - (1 - min(iteration, warmup) / warmup) * (1 - 0.9))
            expected = kept * expected + (1 - kept) * model.weight.item()
        average.update_parameters(model)
        assert average.module.weight.item() == pytest.approx(expected)


def test_the_count_of_iterations_survives_a_resume():
    model = one_weight()
    first, second = (WarmupEMA(model, 1e-4, warmup_iters=10, interval=2) for _ in range(2))
    for _ in range(3):
        first.update_parameters(model)
    second.load_state_dict(first.state_dict())
    nn.init.constant_(model.weight, 1.0)
    first.update_parameters(model)
    second.update_parameters(model)
    assert second.module.weight.item() == first.module.weight.item() > 0


def test_no_device_is_waited_for():
    # Tensors of the meta device have no values: whoever reads one fails.
    model = nn.BatchNorm1d(2, device='meta')
    average = WarmupEMA(model, 1e-4, warmup_iters=10)
    for _ in range(3):
        average.update_parameters(model)
    assert average.steps == 3


def test_buffers_are_copied():
    model = nn.BatchNorm1d(2)
    average = WarmupEMA(model, 1e-4, warmup_iters=10)
    for _ in range(2):
        model.running_mean += 1
        average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)


def test_mmengine_builds_it_by_name():
    config = dict(type='a2mim.WarmupEMA', model=nn.Linear(1, 1), momentum=0.1, warmup_iters=10)
    assert isinstance(MODELS.build(config), WarmupEMA)


def test_a_warm_up_of_no_iterations_is_refused():
    with pytest.raises(ValueError, match='warmup_iters=0'):
        WarmupEMA(nn.Linear(1, 1), 1e-4, warmup_iters=0)
