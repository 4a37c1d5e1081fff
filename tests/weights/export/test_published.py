"""A published file holds the averaged weights and the recipe, and is named after its content."""

import hashlib
import json

import pytest
import timm
import torch
from mmengine import Config

from a2mim.version import __version__
from a2mim.weights.names import find_backbone
from a2mim.weights.publish import publish
from a2mim.weights.recipe import find_recipe
from a2mim.weights.safe_load import load_file

BACKBONE = dict(type='TimmBackbone', model_name='vit_tiny_patch16_224', img_size=64, depth=2)
TEXT = Config(dict(model=dict(type='A2MIM', backbone=BACKBONE), seed=3)).pretty_text
RECIPE = 'vit_tiny_patch16_224', dict(img_size=64, depth=2)


@pytest.fixture(scope='module')
def content() -> dict:
    """What a run with an average of its weights writes."""
    torch.manual_seed(0)
    model = timm.create_model(RECIPE[0], num_classes=0, global_pool='', **RECIPE[1])
    state = {f'backbone.model.{key}': value for key, value in model.state_dict().items()}
    state['neck.projection.bias'] = torch.ones(3)
    return dict(
        state_dict={**state, 'ema_backbone_model_norm_bias': torch.zeros(192)},
        ema_state_dict={f'module.{key}': value + 1 for key, value in state.items()},
        optimizer=dict(state={0: dict(exp_avg=torch.zeros(999))}),
        message_hub=dict(log_scalars={}),
        meta=dict(cfg=TEXT, epoch=7, iter=70, seed=3, mmengine_version='0.10.12'),
    )


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_weights_and_recipe_stay_and_nothing_else(content, tmp_path, suffix):
    path, digest = publish(content, tmp_path / f'model{suffix}')
    assert path.name == f'model-{digest[:8]}{suffix}'
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    back = load_file(path)
    assert back.keys() == {'state_dict', 'meta'}
    expected = {k: v for k, v in content['state_dict'].items() if not k.startswith('ema_')}
    assert back['state_dict'].keys() == expected.keys()
    assert all(torch.equal(back['state_dict'][key], value) for key, value in expected.items())
    assert find_recipe(back, find_backbone(back)) == RECIPE
    meta = back['meta']
    assert (meta['cfg'], meta['epoch'], meta['iter'], meta['seed']) == (TEXT, '7', '70', '3')
    assert (meta['model'], json.loads(meta['options'])) == RECIPE
    versions = json.loads(meta['versions'])
    assert (versions['a2mim'], versions['mmengine']) == (__version__, '0.10.12')
    assert versions['torch'] == torch.__version__


def test_a_config_takes_the_place_of_the_one_in_the_file(content, tmp_path):
    text = TEXT.replace('depth=2', 'depth=2, drop_path_rate=0.1')
    back = load_file(publish(content, tmp_path / 'a.pth', text)[0])
    assert back['meta']['cfg'] == text
    assert json.loads(back['meta']['options'])['drop_path_rate'] == 0.1


def test_a_flat_file_without_a_recipe_is_published_all_the_same(tmp_path):
    back = load_file(publish({'a.weight': torch.ones(2)}, tmp_path / 'a.safetensors')[0])
    assert back['meta'].keys() == {'versions'}


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    state = {'good': torch.ones(2), 'bad': torch.tensor([1.0, value])}
    with pytest.raises(ValueError, match=r'1 tensors hold values that are not finite \(bad\)'):
        publish(dict(state_dict=state), tmp_path / 'a.pth')
    assert not list(tmp_path.iterdir())


def test_another_suffix_and_a_file_without_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'a.bin must end in \.safetensors or \.pth'):
        publish({'a': torch.ones(1)}, tmp_path / 'a.bin')
    with pytest.raises(ValueError, match=r"no weights found; the file has the entries \['meta'\]"):
        publish(dict(meta={}), tmp_path / 'a.pth')
