"""Autocast on the CPU, and the choice of its dtype."""

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from a2mim.engine import optimizers
from a2mim.engine.optimizers import AmpOptimWrapper, autocast_dtype
from a2mim.registry import OPTIM_WRAPPERS


def build(**options: object) -> tuple[nn.Module, AmpOptimWrapper]:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, OPTIM_WRAPPERS.build(dict(type='AmpOptimWrapper', optimizer=optimizer, **options))


def test_a_step_on_the_cpu_computes_in_bfloat16_and_updates_float32_weights():
    model, wrapper = build(clip_grad=dict(max_norm=1.0))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(3, 4))
    assert output.dtype is torch.bfloat16
    wrapper.update_params(output.float().square().mean())
    assert model.weight.dtype is torch.float32
    assert not torch.equal(model.weight, before)


def test_the_gradient_norm_waits_for_the_log():
    model, wrapper = build(clip_grad=dict(max_norm=1.0))
    wrapper.update_params(model(torch.ones(3, 4)).sum())
    assert wrapper.pending_grad_norm.item() == pytest.approx(3 * 10**0.5)


def test_a_resumed_wrapper_takes_its_own_state():
    _, wrapper = build()
    build()[1].load_state_dict(wrapper.state_dict())


def test_a_resumed_wrapper_scales_the_loss_as_the_one_that_was_stopped():
    def scaling() -> tuple[nn.Module, AmpOptimWrapper]:
        model, wrapper = build()
        # float16 has a scaler; this one doubles its scale after every second finite update.
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0, growth_interval=2)
        return model, wrapper

    model, wrapper = scaling()
    for _ in range(3):
        wrapper.update_params(model(torch.ones(3, 4)).sum())
    resumed_model, resumed = scaling()
    resumed_model.load_state_dict(model.state_dict())
    resumed.load_state_dict(wrapper.state_dict())
    for each_model, each in ((model, wrapper), (resumed_model, resumed)):
        each.update_params(each_model(torch.ones(3, 4)).sum())
        assert each.loss_scaler.get_scale() == 32  # once more after the fourth
    assert torch.equal(resumed_model.weight, model.weight)


def test_bfloat16_scales_no_loss():
    assert build()[1].loss_scaler.is_enabled() is False


def test_a_recipe_in_float16_runs_in_bfloat16_on_the_cpu():
    assert build(dtype='float16', loss_scale=512.0)[1].cast_dtype is torch.bfloat16


def test_an_unknown_dtype_is_refused_with_the_choice():
    with pytest.raises(ValueError, match=r"dtype='half'.*float16.*bfloat16"):
        build(dtype='half')


@pytest.mark.parametrize(
    'asked, native, taken',
    [
        (None, True, torch.bfloat16),
        (None, False, torch.float16),
        ('float16', True, torch.float16),
        ('bfloat16', False, torch.bfloat16),
    ],
)
def test_a_gpu_takes_what_is_asked_and_otherwise_what_it_has(monkeypatch, asked, native, taken):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda emulated: native)
    assert autocast_dtype(asked, 'cuda') is taken


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('native, taken', [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_where_the_device_has_it_and_float32_elsewhere(
    monkeypatch, device, native, taken
):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda emulated: native)
    monkeypatch.setattr(optimizers, 'cpu_computes_bfloat16', lambda: native)
    assert autocast_dtype('auto', device) is taken


@pytest.mark.parametrize('native, taken', [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_says_what_it_takes_and_a_step_computes_in_it(monkeypatch, native, taken):
    messages = []
    monkeypatch.setattr(optimizers, 'cpu_computes_bfloat16', lambda: native)
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'log', lambda level, message: messages.append(message))
    model, wrapper = build(dtype='auto')
    with wrapper.optim_context(model):
        output = model(torch.ones(3, 4))
    assert output.dtype is taken and not wrapper.loss_scaler.is_enabled()
    assert len([text for text in messages if str(taken).split('.')[1] in text]) == 1
    before = model.weight.detach().clone()
    wrapper.update_params(output.float().square().mean())
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize('native, warnings', [(False, 1), (True, 0)])
def test_a_cpu_without_bfloat16_units_is_warned_about_once(monkeypatch, native, warnings):
    messages = []
    monkeypatch.setattr(optimizers, 'cpu_computes_bfloat16', lambda: native)
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'log', lambda level, message: messages.append(message))
    build()
    slow = [text for text in messages if 'optim_wrapper.type=OptimWrapper switches' in text]
    assert len(slow) == warnings
