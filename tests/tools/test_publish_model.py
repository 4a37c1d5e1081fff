"""The publishing tool: one file, named after its hash, that the other tools read."""

import importlib.util
from types import ModuleType

import pytest
import timm
import torch
from mmengine import Config

from a2mim.weights.names import find_backbone
from a2mim.weights.recipe import find_recipe
from a2mim.weights.safe_load import load_file
from toy_run import ROOT

TOOL = ROOT / 'tools' / 'model_converters' / 'publish_model.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('publish_model', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_file_goes_along_and_the_whole_hash_is_printed(tool, tmp_path, capsys):
    model = timm.create_model('test_convnext', num_classes=0)
    state = {f'backbone.model.{key}': value for key, value in model.state_dict().items()}
    (tmp_path / 'a.run').mkdir()
    content = dict(state_dict=state, optimizer=dict(a=torch.zeros(10**6)))
    torch.save(content, tmp_path / 'a.run' / 'latest.pth')
    config = Config(dict(model=dict(backbone=dict(model_name='test_convnext'))))
    config.dump(tmp_path / 'base.py')
    (tmp_path / 'config.py').write_text(
        "_base_ = 'base.py'\nmodel = dict(backbone=dict(in_chans=3))"
    )
    arguments = ('a.run', 'out.safetensors', '--config', 'config.py')
    tool.main([str(tmp_path / a) if '.' in a else a for a in arguments])
    (out,) = tmp_path.glob('out-*.safetensors')
    content = load_file(out)
    assert find_recipe(content, find_backbone(content)) == ('test_convnext', dict(in_chans=3))
    text = capsys.readouterr().out
    assert f'wrote {out}' in text
    (digest,) = (line.split()[1] for line in text.splitlines() if line.startswith('sha256'))
    assert len(digest) == 64 and out.stem == f'out-{digest[:8]}'
