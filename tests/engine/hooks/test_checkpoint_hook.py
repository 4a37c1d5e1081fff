"""Checkpoints of a run: complete, named, kept in order, and refused where they do not belong."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import BaseLoop
from torch import nn

from a2mim.engine.hooks.checkpoint import AtomicBackend, CheckpointHook, replace_link


class Loop(BaseLoop):
    def __init__(self) -> None:
        pass

    def run(self) -> None:
        raise NotImplementedError


class Saver:
    """The part of a Runner that a CheckpointHook talks to; notes what is there while it saves."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = str(work_dir)
        self.message_hub = MessageHub.get_instance(str(work_dir))
        self.seen = []
        self.logger = SimpleNamespace(info=lambda text: None)

    def save_checkpoint(self, out_dir: str, filename: str, *args: object, **kwargs: object):
        self.seen.append(sorted(path.name for path in Path(out_dir).glob('*.pth')))
        AtomicBackend().put(filename.encode(), Path(out_dir, filename))


def saved(tmp_path: Path, steps: int, **options: object) -> tuple[Saver, CheckpointHook]:
    runner, hook = Saver(tmp_path), CheckpointHook(interval=1, **options)
    hook.before_train(runner)
    for step in range(1, steps + 1):
        hook._save_checkpoint_with_step(runner, step, meta={})
    return runner, hook


def test_latest_names_the_newest_checkpoint_by_a_relative_link(tmp_path):
    saved(tmp_path, 2)
    assert (tmp_path / 'latest.pth').readlink() == Path('epoch_2.pth')
    assert (tmp_path / 'latest.pth').read_text() == 'epoch_2.pth'


def test_the_old_checkpoint_goes_after_the_new_one_is_there(tmp_path):
    runner, _ = saved(tmp_path, 3, max_keep_ckpts=1)
    assert runner.seen[-1] == ['epoch_2.pth', 'latest.pth']
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_3.pth', 'latest.pth']


def test_as_many_checkpoints_stay_as_asked(tmp_path):
    runner, _ = saved(tmp_path, 4, max_keep_ckpts=2)
    assert sorted(path.name for path in tmp_path.glob('epoch*')) == ['epoch_3.pth', 'epoch_4.pth']
    assert runner.message_hub.get_info('keep_ckpt_ids') == [3, 4]


def test_saving_a_step_again_removes_nothing(tmp_path):
    runner, hook = saved(tmp_path, 2, max_keep_ckpts=2)
    hook._save_checkpoint_with_step(runner, 2, meta={})
    assert sorted(path.name for path in tmp_path.glob('epoch*')) == ['epoch_1.pth', 'epoch_2.pth']


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / 'file.pth'
    path.write_bytes(b'old')
    with pytest.raises(TypeError):
        AtomicBackend().put(None, path)
    assert path.read_bytes() == b'old'


def test_a_link_is_replaced_even_where_an_attempt_was_interrupted(tmp_path):
    (tmp_path / 'latest.partial').symlink_to('gone.pth')
    replace_link(tmp_path / 'latest.pth', 'epoch_1.pth')
    assert (tmp_path / 'latest.pth').readlink() == Path('epoch_1.pth')
    assert not (tmp_path / 'latest.partial').is_symlink()


def test_an_unknown_argument_is_refused_at_once():
    with pytest.raises(TypeError, match="no argument 'keep'"):
        CheckpointHook(interval=1, keep=3)


STATE_OF_A_RUN = dict(meta={}, message_hub={}, optimizer={})


def loading(resume: bool = False, training: bool = True) -> SimpleNamespace:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    loop = Loop() if training else {}
    return SimpleNamespace(model=model, _resume=resume, _train_loop=loop, _load_from='file.pth')


def test_the_checkpoint_of_another_model_is_refused_with_names():
    state = {f'layers.{i}.weight': torch.zeros(2, 2) for i in range(4)}
    with pytest.raises(ValueError, match=r'file\.pth does not fit Sequential.*layers\.0\.weight'):
        CheckpointHook().after_load_checkpoint(loading(), {'state_dict': state})


@pytest.mark.parametrize('runner', [loading(resume=True), loading(training=False)])
def test_a_resumed_run_and_a_test_need_every_tensor(runner):
    state = runner.model.state_dict()
    CheckpointHook().after_load_checkpoint(runner, STATE_OF_A_RUN | {'state_dict': dict(state)})
    state.pop('1.bias')
    with pytest.raises(ValueError, match=r'100% must match'):
        CheckpointHook().after_load_checkpoint(runner, STATE_OF_A_RUN | {'state_dict': state})


def test_weights_alone_are_nothing_to_resume_from():
    runner = loading(resume=True)
    with pytest.raises(ValueError, match=r'no message_hub, meta, optimizer.*--load-checkpoint'):
        CheckpointHook().after_load_checkpoint(runner, {'state_dict': runner.model.state_dict()})


def test_a_new_run_may_have_another_head():
    runner = loading()
    runner.model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)), nn.Linear(2, 3))
    state = runner.model.state_dict() | {'10.weight': torch.zeros(5, 2), '10.bias': torch.zeros(5)}
    CheckpointHook().after_load_checkpoint(runner, {'state_dict': state})
