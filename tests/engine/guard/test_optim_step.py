"""A bad update moves nothing, whichever wrapper and optimiser; a good one is mmengine's."""

import copy
from collections.abc import Callable

import pytest
import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from a2mim.engine.guard import UpdateGuard, UpdateResult, check_clipping
from a2mim.engine.mmengine_fixes import OptimWrapper
from a2mim.engine.optimizers import AmpOptimWrapper

NAN, INF = float('nan'), float('inf')


class Bench:
    """A linear model, its wrapper, its guard, and the results that were reported."""

    def __init__(self, wrapper: Callable = OptimWrapper, fused: bool = False, **options) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=fused)
        self.wrapper = wrapper(optimizer=optimizer, **options)
        self.results: list[UpdateResult] = []
        if wrapper is not MMEngineOptimWrapper:
            self.guard = UpdateGuard(self.model, optimizer, self.results.append)
            self.wrapper.guard = self.guard
        self.iteration = 0

    def step(self, factor: float = 1.0) -> None:
        if hasattr(self, 'guard'):
            self.guard.begin(self.iteration, None)
        self.iteration += 1
        with self.wrapper.optim_context(self.model):
            loss = self.model(torch.ones(2, 3)).sum()
        self.wrapper.update_params(loss * factor)

    def state(self) -> tuple[dict[str, Tensor], dict]:
        optimizer: Optimizer = self.wrapper.optimizer
        return copy.deepcopy((self.model.state_dict(), optimizer.state_dict()['state']))

    @property
    def bad(self) -> list[bool]:
        return [result.bad for result in self.results]


def same(left: object, right: object) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize('wrapper', [OptimWrapper, AmpOptimWrapper])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0), dict(type='value', clip_value=0.1)])
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('factor', [NAN, INF])
def test_a_bad_update_moves_nothing(wrapper, clip, fused, factor):
    bench = Bench(wrapper, fused, clip_grad=clip and dict(clip))  # mmengine empties it
    bench.step()
    before = bench.state()
    bench.step(factor)
    same(bench.state(), before)
    bench.step()
    bench.guard.settle()
    assert bench.bad == [False, True, False]
    assert not torch.equal(bench.model.weight, before[0]['weight'])


@pytest.mark.parametrize('fused', [False, True])
def test_good_updates_equal_mmengines(fused):
    benches = [
        Bench(kind, fused, clip_grad=dict(max_norm=1.0))
        for kind in (OptimWrapper, MMEngineOptimWrapper)
    ]
    for bench in benches:
        for factor in (1.0, -2.0, 3.0):
            bench.step(factor)
    same(benches[0].state(), benches[1].state())


def test_clipping_by_value_does_not_hide_an_infinite_gradient():
    bench = Bench(clip_grad=dict(type='value', clip_value=0.1))
    bench.model.weight.register_hook(lambda grad: grad * INF)
    before = bench.state()
    bench.step()
    same(bench.state(), before)
    assert [result.bad_loss for result in bench.results] == [False]


@pytest.mark.parametrize('fused', [False, True])
def test_one_bad_pass_spoils_the_update_that_it_is_part_of(fused):
    bench = Bench(fused=fused, accumulative_counts=2)
    bench.step()
    bench.step()
    before = bench.state()
    bench.step(NAN)
    bench.step()
    same(bench.state(), before)
    bench.guard.settle()
    assert bench.bad == [False, True]
    assert [[step.iteration for step in v.steps] for v in bench.results] == [[0, 1], [2, 3]]


def test_on_the_device_the_host_hears_of_an_update_before_it_queues_the_next():
    bench = Bench(fused=True)
    heard = []
    bench.wrapper.optimizer.register_step_pre_hook(lambda *_: heard.append(len(bench.results)))
    for _ in range(3):
        bench.step()
    assert heard == [0, 1, 2]


def test_otherwise_the_host_hears_of_it_first_and_queues_no_bad_one():
    bench = Bench(fused=False)
    heard = []
    bench.wrapper.optimizer.register_step_pre_hook(lambda *_: heard.append(len(bench.results)))
    for factor in (1.0, NAN, 1.0):
        bench.step(factor)
    assert heard == [1, 3]


def scaled(fused: bool, scale: float) -> Bench:
    """With a float16 scaler, which works on the CPU too."""
    bench = Bench(AmpOptimWrapper, fused)
    bench.wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    return bench


@pytest.mark.parametrize('fused', [False, True])
def test_a_bad_loss_leaves_the_scale_alone(fused):
    bench = scaled(fused, 1024.0)
    bench.step()
    before = bench.state(), bench.wrapper.loss_scaler.state_dict()
    bench.step(NAN)
    same((bench.state(), bench.wrapper.loss_scaler.state_dict()), before)
    bench.guard.settle()
    assert bench.bad == [False, True]


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('scale, bad, left', [(1024.0, False, 512.0), (0.5, True, 0.5)])
def test_an_overflow_is_the_scalers_business_until_its_scale_is_no_reason(fused, scale, bad, left):
    bench = scaled(fused, scale)
    before = bench.state()
    handle = bench.model.weight.register_hook(lambda grad: grad * INF)
    bench.step()
    same(bench.state()[0], before[0])
    assert bench.wrapper.loss_scaler.get_scale() == left
    handle.remove()
    bench.step()
    bench.guard.settle()
    assert bench.bad == [bad, False]
    assert not torch.equal(bench.model.weight, before[0]['weight'])


def test_a_request_to_stop_is_agreed_on_with_the_next_update():
    bench = Bench()
    bench.step()
    assert not bench.guard.stop_agreed
    bench.guard.stop_requested = True
    bench.step()
    assert bench.guard.stop_agreed


@pytest.mark.parametrize('wrapper', [OptimWrapper, AmpOptimWrapper])
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(
    'clip',
    [dict(max_norm=NAN), dict(type='value', clip_value=NAN), dict(max_norm=1.0, norm_type=NAN)],
)
def test_what_clipping_spoils_does_not_reach_the_weights(wrapper, fused, clip):
    bench = Bench(wrapper, fused, clip_grad=dict(clip))
    before = bench.state()[0]
    bench.step()
    bench.guard.settle()
    assert bench.bad == [True]
    same(bench.state()[0], before)


@pytest.mark.parametrize(
    'clip',
    [
        *(dict(max_norm=bound) for bound in (NAN, INF, -INF, -1.0)),
        *(dict(clip_value=bound) for bound in (NAN, INF, -0.1)),
        *(dict(max_norm=1.0, norm_type=order) for order in (NAN, -2.0, 0)),
    ],
)
def test_a_bound_that_clips_nothing_or_spoils_is_refused(clip):
    with pytest.raises(ValueError, match=r'optim_wrapper\.clip_grad\.\w+=(nan|-?inf|-?\d)'):
        check_clipping(clip)


@pytest.mark.parametrize('clip', [None, {}, dict(max_norm=0), dict(max_norm=5, norm_type=INF)])
def test_other_bounds_pass(clip):
    check_clipping(clip)
