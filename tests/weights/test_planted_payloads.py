"""Whatever a file of weights asks for, loading it runs nothing."""

import os
from dataclasses import replace

import pytest
import torch
from mmengine import Config
from safetensors.torch import save_file as save_safetensors

import a2mim
from a2mim.weights import released
from a2mim.weights.released import entries
from file_server import serve
from small_models import build, pretraining


class Planted:
    """Unpickling this makes the folder ``target``."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def target(tmp_path):
    yield tmp_path / 'target'
    assert not (tmp_path / 'target').exists()


def test_a_payload_does_run_where_nothing_guards_it(tmp_path):
    torch.save(Planted(tmp_path / 'made'), tmp_path / 'a.pth')
    torch.load(tmp_path / 'a.pth', weights_only=False)
    assert (tmp_path / 'made').is_dir()


def test_a_payload_in_a_local_file_is_refused(tmp_path, target):
    torch.save(dict(state_dict={}, meta=Planted(target)), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a.pth asks for \w+.mkdir .*refused'):
        a2mim.load_model(tmp_path / 'a.pth')


def test_a_payload_in_a_released_file_is_refused(tmp_path, target, monkeypatch):
    torch.save(dict(state_dict={}, meta=Planted(target)), tmp_path / 'a.pth')
    config = 'openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300'
    monkeypatch.setenv('A2MIM_HOME', str(tmp_path / 'home'))
    with serve((tmp_path / 'a.pth').read_bytes()) as server:
        entry = replace(entries()[0], name='bad', file='bad.pth', url=server.url, config=config)
        monkeypatch.setattr(released, 'entries', lambda: (entry,))
        with pytest.raises(ValueError, match=r'bad.pth asks for \w+.mkdir .*refused'):
            a2mim.load_model('bad')
    assert (tmp_path / 'home' / 'bad.pth').is_file()


def planted_configs(target):
    """Texts of configs that would make ``target``, were they run or built by mmengine."""
    call, plain = dict(type='os.mkdir', path=str(target)), pretraining().to_dict()
    return {
        'statement': f'import os\nos.mkdir({str(target)!r})\n{pretraining().pretty_text}',
        'model': Config(dict(model=call)).pretty_text,
        'part': Config(dict(model={**plain['model'], 'head': call})).pretty_text,
        'list': Config(dict(model={**plain['model'], 'head': [call]})).pretty_text,
    }


@pytest.mark.parametrize('kind', ['statement', 'model', 'part', 'list'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_a_payload_in_the_config_of_a_checkpoint_is_refused(tmp_path, target, kind, suffix):
    text, path = planted_configs(target)[kind], tmp_path / f'a.{suffix}'
    state = {key: value.contiguous() for key, value in build(pretraining()).state_dict().items()}
    if suffix == 'pth':
        torch.save(dict(meta=dict(cfg=text), state_dict=state), path)
    else:
        save_safetensors(state, path, metadata=dict(cfg=text))
    words = 'does not say which' if kind == 'statement' else r"'os.mkdir', which is no model"
    with pytest.raises(ValueError, match=words):
        a2mim.load_model(path)


def test_a_config_cannot_send_for_a_model_from_elsewhere(tmp_path):
    config = pretraining()
    config.model.backbone.model_name = 'hf-hub:somebody/something'
    meta = dict(cfg=config.pretty_text)
    torch.save(dict(meta=meta, state_dict={'backbone.model.a': torch.ones(1)}), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r"'hf-hub:somebody/something', which is no timm model"):
        a2mim.load_model(tmp_path / 'a.pth')


def test_initial_weights_that_a_config_names_are_not_looked_for(tmp_path):
    config = pretraining()
    model = build(config)
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='/nowhere.pth')
    config.model.backbone.pretrained = True
    content = dict(meta=dict(cfg=config.pretty_text), state_dict=model.state_dict())
    torch.save(content, tmp_path / 'a.pth')
    assert a2mim.load_model(tmp_path / 'a.pth').backbone.init_cfg is None
