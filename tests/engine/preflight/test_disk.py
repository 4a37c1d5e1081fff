"""The size of a checkpoint before there is one."""

import shutil
from collections import namedtuple

import pytest
import torch
from mmengine.optim import LinearLR
from torch import nn

from a2mim.engine.optimizers import Lamb
from a2mim.engine.preflight import check_disk, checkpoint_bytes, optimizer_bytes

Usage = namedtuple('Usage', 'total used free')


@pytest.mark.parametrize(
    'optimizer, slots',
    [
        (torch.optim.SGD, 0),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), 1),
        (torch.optim.AdamW, 2),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), 3),
        (Lamb, 2),
    ],
)
def test_what_an_optimiser_keeps_is_known_before_its_first_step(optimizer, slots):
    weights = [nn.Parameter(torch.ones(30, 40)), nn.Parameter(torch.ones(50))]
    built = optimizer(weights)
    assert optimizer_bytes(built) == pytest.approx(slots * 4 * 1250, rel=0.02)
    assert not built.state
    assert all(weight.grad is None and (weight == 1).all() for weight in weights)


def test_a_scheduler_counts_no_step(build_runner):
    runner = build_runner()
    optimizer = runner.optim_wrapper.optimizer
    LinearLR(optimizer, start_factor=0.5)
    before = optimizer._global_step
    optimizer_bytes(optimizer)
    assert optimizer._global_step == before


@pytest.mark.parametrize('average', [[], [dict(type='EMAHook')]], ids=['plain', 'ema'])
def test_the_estimate_is_that_of_the_file(build_runner, tmp_path, average):
    runner = build_runner(custom_hooks=average, model__backbone__model_name='resnet10t')
    estimate = checkpoint_bytes(runner)
    runner.train()
    assert estimate == pytest.approx((tmp_path / 'epoch_4.pth').stat().st_size, rel=0.05)


def test_room_for_three_is_stated_or_missing(build_runner, monkeypatch):
    runner = build_runner()
    size = checkpoint_bytes(runner)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0, 0, 3 * size))
    assert 'needed for 3 checkpoints' in check_disk(runner)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(0, 0, 3 * size - 1))
    with pytest.raises(ValueError, match=r'free for .* needed .*make room .*--work-dir'):
        check_disk(runner)
