"""A run of any length keeps a window of its logged values and thinned curves of its losses."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

from a2mim.engine.history import MAX_POINTS, curve_of, curve_points, extend_curve, loss_curves
from a2mim.engine.mmengine_fixes import RuntimeInfoHook
from a2mim.weights.safe_load import load_file

NAMES = ('train/loss', 'train/loss_spatial', 'train/lr', 'train/time', 'val/time')


def run(hub: MessageHub, **processor: object) -> tuple[RuntimeInfoHook, SimpleNamespace]:
    """The hook of a run that goes on with ``hub``, a log line every ten iterations."""
    runner = SimpleNamespace(
        message_hub=hub,
        hooks=[],
        train_dataloader=range(10**9),
        val_loop=SimpleNamespace(dataloader=range(7)),
        log_processor=LogProcessor(**processor),
        optim_wrapper=SimpleNamespace(),
    )
    hook = RuntimeInfoHook()
    hook._interval, hook._pending = 10, []
    return hook, runner


def resume(hook: RuntimeInfoHook, runner: SimpleNamespace, monkeypatch) -> None:
    monkeypatch.setattr(RuntimeInfoHook.__mro__[1], 'before_train', lambda *_: None)
    hook.before_train(runner)
    hook._interval = 10


def step(hook: RuntimeInfoHook, runner: SimpleNamespace, iteration: int) -> None:
    for name in ('train/lr', 'train/time'):
        runner.message_hub.update_scalar(name, iteration / 7)
    losses = {name: torch.tensor(iteration / 3) for name in ('loss', 'loss_spatial')}
    hook.after_train_iter(runner, iteration, None, losses)


def old_hub(length: int) -> MessageHub:
    """As a checkpoint from before there were curves brings it: whole histories."""
    hub = MessageHub(f'history of {length}')
    values = np.arange(length) / 3
    histories = {name: HistoryBuffer(values, np.ones(length)) for name in NAMES}
    keys = dict.fromkeys(NAMES, True)
    hub.load_state_dict(dict(log_scalars=histories, runtime_info={}, resumed_keys=keys))
    return hub


def size_of(hub: MessageHub) -> int:
    file = io.BytesIO()
    torch.save(hub.state_dict(), file)
    return file.tell()


def count_copies(patch: pytest.MonkeyPatch) -> list[int]:
    """How many elements mmengine copies, one entry for each value that it appends."""
    copied, append = [], np.append
    patch.setattr(np, 'append', lambda a, b: copied.append(len(a)) or append(a, b))
    return copied


def test_a_step_copies_as_much_after_a_million_steps_as_after_a_thousand(monkeypatch):
    work = {}
    for length in (1000, 1_000_000):
        hook, runner = run(old_hub(length))
        resume(hook, runner, monkeypatch)
        with monkeypatch.context() as patch:
            copied = count_copies(patch)
            for iteration in range(length, length + 200):
                step(hook, runner, iteration)
                runner.message_hub.update_scalar('val/time', 1.0)
        work[length] = sum(copied)
    assert work[1_000_000] <= 1.01 * work[1000]


@pytest.mark.parametrize('length', [10, 1000, 100_000])
def test_a_checkpoint_holds_kilobytes_of_it_and_the_whole_curve(monkeypatch, length, tmp_path):
    hook, runner = run(old_hub(length))
    resume(hook, runner, monkeypatch)
    for iteration in range(length, length + 20):
        step(hook, runner, iteration)
    hook.flush(runner)
    assert size_of(runner.message_hub) < 60_000
    torch.save(runner.message_hub.state_dict(), tmp_path / 'a.pth')
    again = MessageHub(f'read again {length}')
    again.load_state_dict(load_file(tmp_path / 'a.pth'))
    iterations, values = curve_points(loss_curves(again)['loss_spatial'])
    assert iterations[-1] == length + 20
    assert len(values) <= MAX_POINTS
    assert values[0] == pytest.approx((iterations[0] - 1) / 6)
    ends = np.array([0, *iterations])
    assert values == pytest.approx((ends[1:] + ends[:-1] - 1) / 6)


def test_logged_numbers_are_those_of_whole_histories_also_after_a_resume(monkeypatch):
    processor = dict(
        window_size=50, custom_cfg=[dict(data_src='time', method_name='max', window_size=150)]
    )
    whole = HistoryBuffer()
    hook, runner = run(MessageHub('window'), **processor)
    resume(hook, runner, monkeypatch)
    for iteration in range(400):
        if iteration == 273:  # within a window of the log
            hook.flush(runner)
            state = runner.message_hub.state_dict()
            hook, runner = run(MessageHub('window, resumed'), **processor)
            runner.message_hub.load_state_dict(state)
            resume(hook, runner, monkeypatch)
        step(hook, runner, iteration)
        whole.update(torch.tensor(iteration / 3).item())
        if 'train/loss' in runner.message_hub.log_scalars and not hook._pending:
            history = runner.message_hub.get_scalar('train/loss')
            assert history.mean(50) == whole.mean(50)
            times = runner.message_hub.get_scalar('train/time').data[0]
            assert len(times) >= min(iteration + 1, 150)
    kept = runner.message_hub.get_scalar('train/loss').data[0]
    assert np.array_equal(kept, whole.data[0][-150:])
    _, values = curve_points(loss_curves(runner.message_hub)['loss'])
    assert np.array_equal(values, whole.data[0])


def test_sources_that_log_lines_read_as_a_whole_stay_whole(monkeypatch):
    entries = [dict(data_src='loss', method_name='min', window_size='global')]
    hook, runner = run(old_hub(5000), custom_cfg=entries)
    resume(hook, runner, monkeypatch)
    lengths = {name: len(runner.message_hub.get_scalar(name).data[0]) for name in NAMES}
    assert lengths == dict.fromkeys(NAMES, 100) | {'train/loss': 5000}


@pytest.mark.parametrize('length', [0, 1, MAX_POINTS - 1, MAX_POINTS, 5 * MAX_POINTS + 3])
def test_a_curve_is_the_same_whether_made_at_once_or_step_by_step(length):
    values = np.random.default_rng(0).normal(size=length)
    curve = curve_of([])
    for value in values:
        extend_curve(curve, float(value))
    at_once = curve_of(values)
    assert curve['step'] == at_once['step']
    assert curve['means'] == pytest.approx(at_once['means'])
    assert curve['sum'] == pytest.approx(at_once['sum'])
