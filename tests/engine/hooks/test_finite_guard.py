"""FiniteGuardHook in the real Runner: what is skipped, counted, kept and said."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from a2mim.engine.averaging import WarmupEMAHook
from a2mim.engine.guard import FiniteGuardHook
from a2mim.engine.replay import on_cpu, read_failed_step
from a2mim.engine.runner import ToolRunner
from a2mim.errors import NotFiniteError
from a2mim.weights import files
from faults import FaultHook
from toy_run import load_tool, read_scalars, toy_config, write_images

pytestmark = pytest.mark.integration

ADAMW = dict(type='AdamW', lr=1e-3)
EMA = [dict(type='WarmupEMAHook', momentum=0.1, warmup_epochs=1)]


@pytest.fixture
def build(tmp_path) -> Callable[..., Runner]:
    """A function from failing iterations to a run of two epochs of three iterations."""
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 1)
    number = itertools.count()

    def build(*iterations: int, where: str = 'loss', **changes: object) -> Runner:
        defaults = dict(
            work_dir=str(tmp_path / 'run'),
            experiment_name=f'{tmp_path.name}-{next(number)}',
            train_cfg__max_epochs=2,
        )
        cfg = toy_config(tmp_path / 'data', **{**defaults, **changes})
        for part in ('val_dataloader', 'val_evaluator', 'val_cfg'):
            cfg.pop(part)
        runner = ToolRunner.from_cfg(cfg)
        runner.register_hook(FaultHook(iterations, where))
        return runner

    return build


def snapshots(runner: Runner) -> list[dict]:
    """Weights, optimiser state and average after each iteration, filled by the training."""
    found, run_iter = [], runner.train_loop.run_iter

    def state() -> dict:
        hook = next(hook for hook in runner.hooks if isinstance(hook, WarmupEMAHook))
        return dict(
            weights=runner.model.state_dict(),
            optimizer=runner.optim_wrapper.optimizer.state_dict()['state'],
            average=dict(hook.ema_model.module.named_parameters()),
        )

    def recorded(*args: object) -> None:
        run_iter(*args)
        found.append(on_cpu(state()))

    runner.train_loop.run_iter = recorded
    return found


def assert_same(left: object, right: object) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize(
    'where, options',
    [
        ('loss', dict()),
        ('gradient', dict(fused=True)),
        ('loss', dict(fused=True)),
        ('loss', dict(type='SGD', lr=0.1, momentum=0.9, fused=True)),
        ('gradient', dict(type='Lamb', lr=1e-3)),
    ],
    ids=['adamw', 'fused_adamw_gradient', 'fused_adamw', 'fused_sgd', 'lamb_gradient'],
)
def test_a_skipped_update_changes_no_weight_no_state_and_no_average(build, where, options):
    wrapper = dict(type='OptimWrapper', optimizer={**ADAMW, **options}, _delete_=True)
    runner = build(3, 4, where=where, optim_wrapper=wrapper, custom_hooks=EMA)
    states = snapshots(runner)
    runner.train()
    assert len(states) == 6
    assert_same(states[3], states[2])
    assert_same(states[4], states[2])
    assert not torch.equal(
        *(state['weights']['backbone.model.head.fc.bias'] for state in states[4:6])
    )


@pytest.mark.parametrize('fused', [False, True])
def test_skips_are_counted_and_a_streak_is_said_once(build, fused, caplog):
    speed = dict(type='SpeedLogProcessor')
    runner = build(1, 2, 4, optim_wrapper__optimizer__fused=fused, log_processor=speed)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    said = re.findall(r'(iteration \d): the loss is not finite; the update is', caplog.text)
    assert said == ['iteration 2', 'iteration 5']
    lines = read_scalars(Path(runner.work_dir))
    assert max(line.get('skipped', 0) for line in lines) == 3
    assert 'skipped' not in lines[0]


@pytest.mark.parametrize('fused', [False, True])
def test_too_many_in_a_row_end_the_run_and_leave_the_last_checkpoint(build, tmp_path, fused):
    hook = [dict(type='FiniteGuardHook', stop_after=2)]
    runner = build(1, 3, 4, 5, optim_wrapper__optimizer__fused=fused, custom_hooks=hook)
    with pytest.raises(NotFiniteError, match=r'2 updates in a row up to iteration 5 .*\(3 of'):
        runner.train()
    saved = torch.load(tmp_path / 'run/latest.pth', weights_only=False)
    assert saved['meta']['epoch'] == 1
    assert_same(saved['state_dict'], runner.model.state_dict())


def test_a_resumed_run_goes_on_counting(build, tmp_path):
    changes = dict(optim_wrapper__optimizer__fused=True, train_cfg__max_epochs=1)
    build(1, 2, **changes).train()  # the host has not heard of the last one when it is saved
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    assert saved['finite_guard'] == dict(skipped=2, streak=2)
    hook = [dict(type='FiniteGuardHook', stop_after=3)]
    second = build(3, resume=True, custom_hooks=hook, load_from=str(tmp_path / 'run/epoch_1.pth'))
    with pytest.raises(NotFiniteError, match='3 updates in a row up to iteration 4'):
        second.train()


@pytest.mark.parametrize('fused', [False, True])
def test_the_file_of_a_failed_step_has_the_state_in_which_it_failed(build, tmp_path, fused):
    runner = build(3, custom_hooks=EMA, optim_wrapper__optimizer__fused=fused)
    states = snapshots(runner)
    runner.train()
    content = read_failed_step(tmp_path / 'run/failed_steps/iter_4_rank_0.pth')
    assert_same(content['state_dict'], states[2]['weights'])
    assert content['seed'] == 0
    assert content['steps'][0]['batch']['image'].dtype is torch.uint8
    assert [entry.name for entry in (tmp_path / 'run/failed_steps').iterdir()] == [
        'iter_4_rank_0.pth'
    ]


def test_a_run_keeps_a_handful_of_failed_steps(build, tmp_path):
    build(0, 1, 3, 5).train()
    assert len([*(tmp_path / 'run/failed_steps').iterdir()]) == 3


def test_a_file_that_cannot_be_written_stops_nothing(build, tmp_path, monkeypatch, caplog):
    def full(*args: object) -> None:
        raise OSError(28, 'No space left on device')

    runner = build(1, default_hooks__checkpoint=None)
    monkeypatch.setattr(files, 'put', full)
    monkeypatch.setattr(files, 'WAITS', ())
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert 'iter_2_rank_0.pth could not be written: No space left' in caplog.text
    assert [*(tmp_path / 'run/failed_steps').iterdir()] == []


def test_a_wrapper_without_a_guard_is_refused_with_the_choice(build):
    runner = build()
    runner.optim_wrapper = dict(type='mmengine.OptimWrapper', optimizer=ADAMW)
    with pytest.raises(TypeError, match='has no finite guard; take OptimWrapper'):
        runner.train()


def test_a_run_stops_after_one_update_at_least():
    with pytest.raises(ValueError, match='stop_after=0 must be at least 1'):
        FiniteGuardHook(stop_after=0)


@pytest.mark.integration
def test_the_tool_says_it_in_one_line_with_a_code_of_its_own(build, tmp_path, capfd):
    cfg = toy_config(tmp_path / 'data', custom_hooks=[dict(type='FiniteGuardHook', stop_after=2)])
    # Images of a spread of 0 become infinite when they are normalised.
    cfg.model.data_preprocessor.std = [1e-45] * 3
    cfg.dump(tmp_path / 'toy.py')
    with pytest.raises(SystemExit) as exit_:
        # The check before a run would find it, too.
        options = ['--work-dir', str(tmp_path / 'out'), '--no-preflight']
        load_tool('train').main([str(tmp_path / 'toy.py'), *options])
    assert exit_.value.code == 3
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith('error')]
    assert len(errors) == 1
    assert '2 updates in a row' in errors[0]
