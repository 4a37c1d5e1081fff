"""SIGTERM and SIGUSR1 finish the step, save and leave."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.runner import ToolRunner
from a2mim.engine.signals import StopSignalHook
from toy_run import ROOT, load_tool, read_scalars, toy_config, write_images

pytestmark = pytest.mark.integration

NUMBERS = [signal.SIGTERM, signal.SIGUSR1]


class SignalAt(Hook):
    """Send this process a signal in the middle of an iteration, or before a validation."""

    def __init__(self, number: int, iteration: int = -1, in_validation: bool = False) -> None:
        self.number, self.iteration, self.in_validation = number, iteration, in_validation

    def before_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if self.in_validation:
            self.in_validation = False
            os.kill(os.getpid(), self.number)


@pytest.fixture
def build(tmp_path) -> Callable[..., Runner]:
    """A function from a hook and changes of the config to a run of four epochs of three."""
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 1)
    number = itertools.count()

    def build(hook: Hook, **changes: object) -> Runner:
        defaults = dict(
            work_dir=str(tmp_path / 'run'), experiment_name=f'{tmp_path.name}-{next(number)}'
        )
        runner = ToolRunner.from_cfg(toy_config(tmp_path / 'data', **{**defaults, **changes}))
        runner.register_hook(hook)
        return runner

    return build


def leave(runner: Runner) -> int:
    with pytest.raises(SystemExit) as exit_:
        runner.train()
    assert exit_.value.code == 75
    return runner.iter + 1


@pytest.mark.parametrize('number', NUMBERS)
def test_a_signal_lets_the_step_finish_saves_and_ends_with_its_code(build, tmp_path, number):
    before = [signal.getsignal(each) for each in NUMBERS]
    runner = build(SignalAt(number, iteration=4))
    assert leave(runner) == 5
    saved = torch.load(tmp_path / 'run/latest.pth', weights_only=False)
    assert saved['meta']['iter'] == 5
    for key, value in runner.model.state_dict().items():
        assert torch.equal(saved['state_dict'][key], value)
    assert [signal.getsignal(each) for each in NUMBERS] == before


def test_where_the_host_lags_all_stop_one_update_later(build):
    runner = build(SignalAt(signal.SIGUSR1, iteration=3), optim_wrapper__optimizer__fused=True)
    assert leave(runner) == 5


def test_a_run_stopped_at_the_end_of_an_epoch_is_validated_once_it_goes_on(build, tmp_path):
    assert leave(build(SignalAt(signal.SIGUSR1, iteration=2))) == 3
    assert not any('accuracy/top1' in line for line in read_scalars(tmp_path / 'run'))
    changes = dict(resume=True, load_from=str(tmp_path / 'run/latest.pth'))
    assert leave(build(SignalAt(signal.SIGUSR1, iteration=3), **changes)) == 4
    assert any('accuracy/top1' in line for line in read_scalars(tmp_path / 'run'))


def test_a_signal_during_validation_is_honoured_after_it(build, tmp_path):
    assert leave(build(SignalAt(signal.SIGTERM, in_validation=True))) == 4
    assert any('accuracy/top1' in line for line in read_scalars(tmp_path / 'run'))


def test_a_signal_waits_until_accumulated_gradients_have_been_used(build):
    silence_harmless_warnings()  # the schedule moves before the first update
    changes = dict(optim_wrapper__accumulative_counts=2)
    assert leave(build(SignalAt(signal.SIGUSR1, iteration=4), **changes)) % 2 == 0


def test_a_run_that_is_complete_before_all_have_heard_ends_as_ever(build):
    changes = dict(optim_wrapper__optimizer__fused=True, train_cfg__max_epochs=1)
    build(SignalAt(signal.SIGUSR1, iteration=2), **changes).train()


def test_a_run_without_checkpoints_leaves_too(build, tmp_path):
    leave(build(SignalAt(signal.SIGUSR1, iteration=1), default_hooks__checkpoint=None))
    assert not [*(tmp_path / 'run').glob('*.pth')]


def test_a_thread_that_may_not_listen_trains_all_the_same(build):
    failures = []

    def train(runner: Runner) -> None:
        try:
            runner.train()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(
        target=train, args=(build(StopSignalHook(), train_cfg__max_epochs=1),)
    )
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.integration
def test_the_tool_ends_with_the_code_and_resumes_to_the_end(build, tmp_path):
    cfg = toy_config(tmp_path / 'data', train_cfg__max_epochs=10)
    cfg.dump(tmp_path / 'toy.py')
    arguments = [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path / 'out')]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools/train.py'), *arguments],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: [*(tmp_path / 'out').glob('*/vis_data/scalars.json')])
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75
    assert 0 < torch.load(tmp_path / 'out/latest.pth', weights_only=False)['meta']['iter'] < 30
    load_tool('train').main([*arguments, '--resume', 'auto'])
    assert torch.load(tmp_path / 'out/latest.pth', weights_only=False)['meta']['iter'] == 30


def wait_for(found: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found()
