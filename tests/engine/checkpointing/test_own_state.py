"""A checkpoint is refused by other models, and by a run that could not go on from it."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from a2mim.engine.training_state import check_own

STATE_OF_A_RUN = dict(meta={}, message_hub={}, optimizer={})


def loading(resume: bool = False, training: bool = True) -> SimpleNamespace:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else {}
    return SimpleNamespace(model=model, _resume=resume, _train_loop=loop, _load_from='file.pth')


def test_the_checkpoint_of_another_model_is_refused_with_names():
    state = {f'layers.{i}.weight': torch.zeros(2, 2) for i in range(4)}
    with pytest.raises(ValueError, match=r'file\.pth does not fit Sequential.*layers\.0\.weight'):
        check_own(loading(), {'state_dict': state})


@pytest.mark.parametrize('runner', [loading(resume=True), loading(training=False)])
def test_a_resumed_run_and_a_test_need_every_tensor(runner):
    state = runner.model.state_dict()
    check_own(runner, STATE_OF_A_RUN | {'state_dict': dict(state)})
    state.pop('1.bias')
    with pytest.raises(ValueError, match=r'100% must match'):
        check_own(runner, STATE_OF_A_RUN | {'state_dict': state})


def test_weights_alone_are_nothing_to_resume_from():
    runner = loading(resume=True)
    with pytest.raises(ValueError, match=r'no message_hub, meta, optimizer.*--load-checkpoint'):
        check_own(runner, {'state_dict': runner.model.state_dict()})


def test_a_new_run_may_have_another_head():
    runner = loading()
    runner.model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)), nn.Linear(2, 3))
    state = runner.model.state_dict() | {'10.weight': torch.zeros(5, 2), '10.bias': torch.zeros(5)}
    check_own(runner, {'state_dict': state})


def test_a_file_that_is_marked_is_nothing_to_resume_from():
    runner = loading(resume=True)
    state = STATE_OF_A_RUN | dict(meta=dict(resumable=False), state_dict=runner.model.state_dict())
    with pytest.raises(ValueError, match=r'resume from latest\.pth'):
        check_own(runner, state)
