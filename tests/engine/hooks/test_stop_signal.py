"""SIGTERM, SIGINT, SIGHUP and SIGUSR1 finish the step, save and leave."""

import itertools
import multiprocessing
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

from a2mim.datasets import ImageDataset, SampleKey
from a2mim.engine import preflight
from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.runner import ToolRunner
from a2mim.engine.signals import StopSignalHook
from exact_run import differing
from toy_run import ROOT, load_tool, read_scalars, toy_config, write_images

pytestmark = pytest.mark.integration

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


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


@pytest.mark.parametrize('number', NUMBERS)
def test_a_signal_during_a_wait_for_data_saves_the_state_before_the_batch(
    build, tmp_path, monkeypatch, number
):
    build(Hook(), work_dir=str(tmp_path / 'whole')).train()
    load, calls = ImageDataset.__getitem__, itertools.count()

    def stop(dataset: ImageDataset, key: SampleKey) -> dict:
        if next(calls) == 5 * 4 - 1:  # an image of the fifth batch
            os.kill(os.getpid(), number)
        return load(dataset, key)

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataset, '__getitem__', stop)
        runner = build(Hook(), val_dataloader=None, val_evaluator=None, val_cfg=None)
        assert leave(runner) == 5  # a number before the iteration that was not done
    saved = torch.load(tmp_path / 'run/latest.pth', weights_only=False)
    assert saved['meta']['iter'] == 4
    build(Hook(), resume=True, load_from=str(tmp_path / 'run/latest.pth')).train()
    whole, resumed = (
        torch.load(tmp_path / f'{n}/latest.pth', weights_only=False) for n in ('whole', 'run')
    )
    assert differing(whole['state_dict'], resumed['state_dict']) == []
    assert differing(whole['optimizer'], resumed['optimizer']) == []


def test_what_is_ignored_stays_ignored(build):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        build(SignalAt(signal.SIGHUP, iteration=1), train_cfg__max_epochs=1).train()
    finally:
        signal.signal(signal.SIGHUP, before)


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


@pytest.mark.parametrize('place', ['check_disk', 'dry_step', 'build'])
def test_ctrl_c_before_the_first_step_is_one_line(tmp_path, monkeypatch, capsys, place):
    def stop(*args: object, **kwargs: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return ''

    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 1)
    toy_config(tmp_path / 'data').dump(tmp_path / 'toy.py')
    if place == 'build':
        monkeypatch.setattr(ImageDataset, '__init__', stop)
    else:
        checks = [stop if c.__name__ == place else c for c in preflight.CHECKS]
        monkeypatch.setattr(preflight, 'CHECKS', checks)
    with pytest.raises(SystemExit) as exit_:
        arguments = [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path / 'out')]
        load_tool('train').main(arguments)
    assert exit_.value.code == 130
    said = capsys.readouterr().err
    assert said.startswith('stopped by Ctrl-C before the first step') and said.count('\n') == 1
    assert not [*tmp_path.rglob('*.pth')]


def test_ctrl_c_while_torch_is_imported_shows_no_traceback(tmp_path):
    command = [sys.executable, str(ROOT / 'tools/train.py'), 'gone.py']
    code = (
        'import os, signal, sys, runpy\n'
        'class Stop:\n'
        '    def find_spec(self, name, *rest):\n'
        "        if name == 'torch':\n"
        '            os.kill(os.getpid(), signal.SIGINT)\n'
        'sys.meta_path.insert(0, Stop())\n'
        'sys.argv = sys.argv[1:]\n'
        'sys.path.insert(0, os.path.dirname(sys.argv[0]))\n'
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command[1:1] = ['-c', code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == 'stopped by Ctrl-C\n'


def test_a_signal_between_two_epochs_saves_and_says_how_to_resume(build, tmp_path, capsys):
    class Between(Hook):
        def after_train_epoch(self, runner: Runner) -> None:
            if runner.epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    assert leave(build(Between())) == 7
    assert '--resume auto continues' in capsys.readouterr().out
    saved = torch.load(tmp_path / 'run/latest.pth', weights_only=False)
    assert saved['meta']['iter'] == 7


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


@pytest.mark.parametrize(
    ('number', 'workers'),
    [
        (signal.SIGUSR1, dict(num_workers=0)),
        (signal.SIGTERM, dict(num_workers=2, persistent_workers=True)),
        (signal.SIGINT, dict(num_workers=2)),
        (signal.SIGHUP, dict(num_workers=1, persistent_workers=True, start='spawn')),
    ],
)
def test_a_signal_to_all_processes_ends_with_the_code_and_resumes(build, tmp_path, number, workers):
    cfg = toy_config(tmp_path / 'data', train_cfg__max_epochs=10)
    cfg.env_cfg = dict(mp_cfg=dict(mp_start_method=workers.pop('start', 'fork')))
    cfg.train_dataloader.update(workers)
    cfg.val_dataloader.update(workers)
    cfg.dump(tmp_path / 'toy.py')
    arguments = [str(tmp_path / 'toy.py'), '--work-dir', str(tmp_path / 'out')]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools/train.py'), *arguments],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    wait_for(lambda: [*(tmp_path / 'out').glob('*/vis_data/scalars.json')])
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75, said
    assert 'Traceback' not in said
    wait_for(lambda: not is_left(process.pid))  # no worker; the tracker of spawned ones is slower
    assert 0 < torch.load(tmp_path / 'out/latest.pth', weights_only=False)['meta']['iter'] < 30
    # This process has workers of one kind already, and mmengine warns of another.
    fork = ['--cfg-options', 'env_cfg.mp_cfg.mp_start_method=fork']
    load_tool('train').main([*arguments, '--resume', 'auto', *fork])
    assert multiprocessing.active_children() == []
    assert torch.load(tmp_path / 'out/latest.pth', weights_only=False)['meta']['iter'] == 30


def is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(found: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found()
