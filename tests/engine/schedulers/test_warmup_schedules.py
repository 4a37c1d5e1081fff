"""Rates of the published system; see tests/data/README.md, "Schedules"."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from a2mim.engine.schedulers import (
    OverlapCosineLR,
    WarmupCosineLR,
    WarmupHoldLR,
    WarmupStepLR,
    WeightDecayHook,
)
from a2mim.registry import PARAM_SCHEDULERS

EPOCH = 626  # ImageNet-1K in batches of 2048


def wrapper(*rates: float) -> OptimWrapper:
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in rates]
    return OptimWrapper(torch.optim.SGD(groups, lr=rates[0]))


def build(scheduler: dict, optimizer: OptimWrapper, epoch_length: int = EPOCH):
    """As the Runner does for a schedule in epochs that steps by iteration."""
    return PARAM_SCHEDULERS.build(
        dict(convert_to_iter_based=True, **scheduler),
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )


def rate_at(scheduler: dict, base: float, iteration: int, epoch_length: int = EPOCH) -> float:
    """The rate in iteration ``iteration``, without walking there: the form is closed."""
    optimizer = wrapper(base)
    built = build(scheduler, optimizer, epoch_length)
    built._global_step = built.last_step = iteration - 1
    built.step()
    return optimizer.param_groups[0]['lr']


@pytest.mark.parametrize(
    'iteration, rate',
    [
        (0, 0.0),
        (1, 1.91136e-7),
        (626, 1.19717426e-4),
        (3130, 5.99563691e-4),
        (6259, 1.199808307e-3),
        (6260, 1.2e-3),
        (93900, 6.37212651e-4),
        (187799, 1.00000001e-5),
    ],
)
def test_warmup_cosine_of_the_300_epoch_recipe(iteration, rate):
    scheduler = dict(type='WarmupCosineLR', warmup=10, eta_min=1e-5, end=300)
    assert rate_at(scheduler, 1.2e-3, iteration) == pytest.approx(rate, rel=3e-6)


@pytest.mark.parametrize('iteration', [0, 1, 50, 99, 100, 1999])
def test_a_warmup_below_one_is_a_share_of_the_schedule(iteration):
    rates = [
        rate_at(dict(type='WarmupCosineLR', warmup=w, eta_min=1e-5, end=20), 1e-3, iteration, 100)
        for w in (0.05, 1)
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    'iteration, rate',
    [
        (0, 8e-10),
        (3130, 2.000004e-4),
        (6260, 4e-4),
        (699 * EPOCH + 625, 4e-4),
        (700 * EPOCH, 4e-5),
        (799 * EPOCH, 4e-5),
    ],
)
def test_steps_of_the_vit_recipe(iteration, rate):
    scheduler = dict(type='WarmupStepLR', warmup=10, warmup_ratio=2e-6, milestones=[700], end=800)
    assert rate_at(scheduler, 4e-4, iteration) == pytest.approx(rate, rel=1e-12)


def published_overlap(base: float, low: float, progress: float, warm: float) -> float:
    """Cosine from iteration 0 on, times the warm-up 1 - (1 - i/W)(1 - ratio)."""
    cosine = torch.cos(torch.tensor(torch.pi * progress, dtype=torch.double)).item()
    return (low + 0.5 * (base - low) * (1 + cosine)) * warm


@pytest.mark.parametrize('iteration', [0, 1, 1000, 3129, 3130, 40000, 62599])
def test_the_cosine_by_iteration_starts_below_the_warm_up(iteration):
    scheduler = dict(type='OverlapCosineLR', warmup=5, warmup_ratio=1e-5, eta_min=1e-6, end=100)
    warm = 1 - max(0, 1 - iteration / 3130) * (1 - 1e-5)
    expected = published_overlap(8e-3, 1e-6, iteration / 62600, warm)
    assert rate_at(scheduler, 8e-3, iteration) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('iteration', [0, 625, 626, 3129, 3130, 3131, 62599])
def test_stairs_hold_the_cosine_within_an_epoch_but_not_the_warm_up(iteration):
    scheduler = dict(
        type='OverlapCosineLR', warmup=5, warmup_ratio=1e-5, eta_min=1e-6, end=100, stairs=True
    )
    warm = 1 - max(0, 1 - iteration / 3130) * (1 - 1e-5)
    expected = published_overlap(8e-3, 1e-6, (iteration // EPOCH) / 100, warm)
    assert rate_at(scheduler, 8e-3, iteration) == pytest.approx(expected, rel=1e-12)


def test_the_minimum_is_absolute_and_raises_slow_groups():
    # The lowest layers of ViT-L under layer decay start at 2.1e-7, below the minimum.
    optimizer = wrapper(1e-2, 2.1e-7)
    scheduler = build(dict(type='WarmupCosineLR', warmup=0, eta_min=1e-6, end=2), optimizer, 5)
    for _ in range(9):
        optimizer.step()
        scheduler.step()
    fast, slow = (group['lr'] for group in optimizer.optimizer.param_groups)
    assert 2.1e-7 < slow < 1e-6 < fast


def test_stepping_walks_the_closed_form():
    optimizer = wrapper(1.0)
    config = dict(type='WarmupCosineLR', warmup=1, eta_min=0.1, end=3)
    scheduler = build(config, optimizer, 4)
    walked = []
    for _ in range(12):
        walked.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert walked == [rate_at(config, 1.0, iteration, 4) for iteration in range(12)]


@pytest.mark.parametrize('end', [3, 6])
def test_a_resumed_schedule_goes_on_as_its_own_config_says(end):
    config = dict(type='WarmupCosineLR', warmup=1, eta_min=0.1)
    first, second = wrapper(1.0), wrapper(1.0)
    stopped, resumed = (
        build(config | dict(end=3), first, 4),
        build(config | dict(end=end), second, 4),
    )
    for _ in range(6):
        first.step()
        stopped.step()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(stopped.state_dict())
    second.step()
    resumed.step()
    assert second.param_groups[0]['lr'] == rate_at(config | dict(end=end), 1.0, 7, 4)


def test_a_schedule_may_step_by_epoch():
    optimizer = wrapper(1.0)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='WarmupCosineLR', warmup=2, eta_min=0.0, end=4, optimizer=optimizer)
    )
    assert scheduler.by_epoch
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0.5 * 0.5)


def test_accumulation_raises_no_false_alarm():
    scheduler = WarmupStepLR(wrapper(1.0), milestones=[1])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        scheduler.step()


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r'warmup=10 .* 1 epochs.*param_scheduler.warmup=0'):
        build(dict(type='WarmupCosineLR', warmup=10, eta_min=0.0, end=1), wrapper(1.0))


@pytest.mark.parametrize('options', [dict(warmup=-1), dict(warmup=5, warmup_ratio=2.0)])
def test_an_impossible_warm_up_is_refused(options):
    with pytest.raises(ValueError, match='warmup'):
        OverlapCosineLR(wrapper(1.0), eta_min=0.0, end=10, **options)


def test_only_epochs_can_be_converted():
    with pytest.raises(ValueError, match='by_epoch=False'):
        WarmupCosineLR.build_iter_from_epoch(
            wrapper(1.0), warmup=1, eta_min=0.0, end=3, by_epoch=False, epoch_length=2
        )


@pytest.mark.parametrize(
    ('step', 'rate'), [(0, 0.0), (2, 0.5), (4, 1.0), (79, 1.0), (80, 1.0), (90, 0.505), (100, 0.01)]
)
def test_hold_keeps_the_rate_until_the_last_fifth(step, rate):
    scheduler = WarmupHoldLR(wrapper(1.0), warmup=4, eta_min=0.01, end=100, by_epoch=False)
    scheduler.last_step = step
    assert scheduler._get_value()[0] == pytest.approx(rate)


@pytest.mark.parametrize('steps', [1, 3, 26, 79, 1000])
def test_a_length_that_is_decided_late_changes_no_rate_before(steps):
    def rates(end):
        scheduler = WarmupHoldLR(wrapper(1.0), warmup=3, eta_min=0.0, end=end, by_epoch=False)
        values = []
        for step in range(steps):
            scheduler.last_step = step
            values += scheduler._get_value()
        return values

    length = WarmupHoldLR(wrapper(1.0), warmup=3, eta_min=0.0, by_epoch=False).length_after(steps)
    assert rates(length) == rates(1 << 40)
    assert 0.8 * length >= steps > 0.8 * (length - 1)


@pytest.mark.parametrize('hold', [-0.1, 1.0, 2])
def test_a_share_that_leaves_no_anneal_is_refused(hold):
    with pytest.raises(ValueError, match='hold='):
        WarmupHoldLR(wrapper(1.0), warmup=0, eta_min=0.0, hold=hold, end=9, by_epoch=False)


def test_the_weight_decay_follows_a_cosine_also_after_a_resume_and_0_stays_0():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [dict(params=[weights[0]], weight_decay=0.04), dict(params=[weights[1]])]
    found = []
    for iteration in range(9):
        optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0)
        if iteration:  # another optimiser, with the state of the last
            optimizer.load_state_dict(saved)  # noqa: F821
        runner = SimpleNamespace(iter=iteration, max_iters=9, optim_wrapper=OptimWrapper(optimizer))
        WeightDecayHook(end=0.2).before_train_iter(runner, 0)
        found.append([group['weight_decay'] for group in optimizer.param_groups])
        saved = optimizer.state_dict()  # noqa: F841
    for iteration, (decay, none) in enumerate(found):
        half = 0.5 + 0.5 * math.cos(math.pi * iteration / 8)
        assert decay == pytest.approx(0.2 + (0.04 - 0.2) * half, rel=1e-9) and none == 0
    assert found[0][0] == pytest.approx(0.04) and found[8][0] == pytest.approx(0.2)
    with pytest.raises(ValueError, match='-1'):
        WeightDecayHook(end=-1)
