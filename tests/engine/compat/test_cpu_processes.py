"""How a config is fitted to processes without GPU."""

import pytest
from mmengine import Config
from torch import distributed

from a2mim.engine.processes import start_gloo_process


@pytest.fixture
def started(monkeypatch) -> list[str]:
    backends = []
    monkeypatch.setattr(
        distributed, 'init_process_group', lambda backend, timeout: backends.append(backend)
    )
    return backends


def test_the_processes_talk_by_gloo_and_have_no_device(started):
    cfg = Config(dict(sync_bn='torch'))
    start_gloo_process(cfg)
    assert started == ['gloo']
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.sync_bn == 'torch'


def test_what_a_config_says_about_the_wrapper_is_kept(started):
    cfg = Config(dict(model_wrapper_cfg=dict(find_unused_parameters=True, static_graph=True)))
    start_gloo_process(cfg)
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.model_wrapper_cfg.static_graph is True


def test_a_wrapper_of_another_kind_keeps_its_own_arguments(started):
    cfg = Config(dict(model_wrapper_cfg=dict(type='FullyShard')))
    start_gloo_process(cfg)
    assert cfg.model_wrapper_cfg == dict(type='FullyShard')
