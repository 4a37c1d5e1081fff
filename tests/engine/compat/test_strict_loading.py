"""No way into mmengine's checkpoint loading runs what a file asks for."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, _safe_torch_load
from torch import nn

from a2mim.engine.mmengine_fixes import strict_loading
from a2mim.weights.safe_load import SWITCH


class Payload:
    """Creates a file when an unrestricted unpickler meets it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def payload(tmp_path: Path) -> tuple[str, Path]:
    path, trace = tmp_path / 'payload.pth', tmp_path / 'trace'
    torch.save({'state_dict': {}, 'meta': Payload(trace)}, path)
    return str(path), trace


def test_a_local_checkpoint_with_a_payload_is_refused(payload):
    path, trace = payload
    with pytest.raises(ValueError, match='refused'):
        load_checkpoint(nn.Linear(1, 1), path)
    assert not trace.exists()


def test_the_other_loaders_lose_their_fall_back(payload):
    path, trace = payload
    with strict_loading(), pytest.raises(pickle.UnpicklingError):
        _safe_torch_load(path)  # what every other scheme of mmengine ends in
    assert not trace.exists()


def test_the_switch_is_set_back(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    with strict_loading():
        assert os.environ[SWITCH] == '1'
    assert SWITCH not in os.environ


def test_a_switch_that_was_set_before_stays(monkeypatch):
    monkeypatch.setenv(SWITCH, '0')
    with strict_loading():
        assert os.environ[SWITCH] == '1'
    assert os.environ[SWITCH] == '0'


def test_the_history_of_a_run_is_plain_enough(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'message_hub': {'log_scalars': {'train/loss': history}}}, tmp_path / 'own.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'own.pth'))
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == 1.5
