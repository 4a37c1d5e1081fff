"""How float32 matrices are multiplied: in TF32 by default, on GPUs alone, not in older runs."""

from collections.abc import Iterator

import pytest
import torch
from mmengine import Config

from a2mim.engine import precision
from a2mim.engine.config_check import check_names
from a2mim.engine.precision import adopt_matmul, set_matmul, state_matmul


@pytest.fixture(autouse=True)
def global_setting() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def gpu(monkeypatch) -> None:
    monkeypatch.setattr(precision, 'get_device', lambda: 'cuda')


def test_a_new_run_takes_tf32_and_says_so(gpu):
    cfg = Config(dict(env_cfg=dict(cudnn_benchmark=True)))
    line = state_matmul(cfg)
    assert cfg.env_cfg == dict(cudnn_benchmark=True, float32_matmul='high')
    assert 'TF32' in line and "env_cfg.float32_matmul='high'" in line
    set_matmul('high')
    assert torch.get_float32_matmul_precision() == 'high'
    set_matmul('highest')
    assert torch.get_float32_matmul_precision() == 'highest'


def test_a_config_states_otherwise(gpu):
    cfg = Config(dict(env_cfg=dict(float32_matmul='highest')))
    check_names(cfg)
    assert 'full float32' in state_matmul(cfg) and cfg.env_cfg.float32_matmul == 'highest'


def test_a_cpu_computes_what_it_computed():
    assert state_matmul(Config({})) is None
    torch.set_float32_matmul_precision('highest')
    set_matmul('high')
    assert torch.get_float32_matmul_precision() == 'highest'


@pytest.mark.parametrize('wrong', ['medium', 'tf32', True])
def test_another_value_is_refused_with_the_choice(wrong):
    cfg = Config(dict(env_cfg=dict(float32_matmul=wrong)))
    with pytest.raises(ValueError, match=rf"float32_matmul={wrong!r} .*'high', 'highest'"):
        state_matmul(cfg)


@pytest.mark.parametrize(
    'before, now, expected',
    [
        ('env_cfg = dict(float32_matmul="highest")', {}, 'highest'),
        ('env_cfg = dict(float32_matmul="high")', None, 'high'),
        ('env_cfg = dict(float32_matmul="highest")', dict(float32_matmul='high'), 'high'),
        # Written before there was the entry, or without a config.
        ('env_cfg = dict(cudnn_benchmark=True)', {}, 'highest'),
        ('', {}, 'highest'),
    ],
)
def test_a_resumed_run_multiplies_as_it_did(tmp_path, before, now, expected):
    torch.save(dict(meta=dict(cfg=before), state_dict={}), tmp_path / 'run.pth')
    cfg = Config(dict(env_cfg=now, resume=True))
    adopt_matmul(cfg, str(tmp_path / 'run.pth'))
    state_matmul(cfg)
    assert cfg.env_cfg.float32_matmul == expected
