"""``--weights`` chooses in every tool that reads weights, and in Python."""

import argparse
import importlib
from pathlib import Path

import pytest
import timm
import torch
from mmengine import Config

import a2mim
from a2mim.engine.command_line import add_common_options, add_train_options, apply_train_options
from a2mim.weights.names import find_backbone
from a2mim.weights.safe_load import load_file

CONVERTERS = Path(__file__).parents[2] / 'tools' / 'model_converters'
SMALL = ['embed_dim=24', 'depth=1', 'num_heads=2', 'img_size=64']
# Tool, name of its output and further options.
TOOLS = {
    'extract_backbone_weights': ('out.pth', []),
    'openmixup_to_a2mim': ('out.pth', []),
    'publish_model': ('out.pth', []),
    'export_backbone': (
        'out.pth',
        ['--to', 'timm', '--model', 'vit_tiny_patch16_224', '--model-options', *SMALL],
    ),
}


@pytest.fixture
def two_sets(tmp_path):
    """A file of timm's training script, its averaged and its raw weights."""
    options = {key: int(value) for key, value in (pair.split('=') for pair in SMALL)}
    raw, averaged = (timm.create_model('vit_tiny_patch16_224', **options) for _ in range(2))
    torch.nn.init.normal_(averaged.cls_token)
    content = dict(state_dict=raw.state_dict(), state_dict_ema=averaged.state_dict())
    torch.save(content, tmp_path / 'in.pth')
    return tmp_path / 'in.pth', averaged.state_dict(), raw.state_dict()


@pytest.mark.parametrize('tool', TOOLS)
@pytest.mark.parametrize('asked', [[], ['--weights', 'averaged'], ['--weights', 'raw']])
def test_a_converter_writes_the_weights_that_are_asked_for(
    tool, asked, two_sets, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(CONVERTERS)
    file, averaged, raw = two_sets
    name, options = TOOLS[tool]
    importlib.import_module(tool).main([str(file), str(tmp_path / name), *asked, *options])
    (written,) = tmp_path.glob('out*.pth')
    expected = raw if 'raw' in asked else averaged
    found = find_backbone(load_file(written), averaged.keys()).state
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize('asked, given', [([], {}), (['--weights', 'raw'], {'weights': 'raw'})])
def test_a_training_keeps_the_choice_in_its_config(asked, given, two_sets):
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    add_train_options(parser)
    file = str(two_sets[0])
    args = parser.parse_args(['config.py', '--pretrained', file, *asked])
    cfg = Config(dict(model=dict(backbone={}), train_dataloader=None, randomness={}))
    apply_train_options(cfg, args)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=file, **given)


@pytest.mark.parametrize('asked', [None, 'averaged', 'raw'])
def test_a_model_is_loaded_with_the_weights_that_are_asked_for(asked, two_sets, tmp_path):
    file, averaged, raw = two_sets
    backbone = dict(type='TimmBackbone', model_name='vit_tiny_patch16_224')
    backbone |= {key: int(value) for key, value in (pair.split('=') for pair in SMALL)}
    config = tmp_path / 'config.py'
    preprocessor = dict(type='ImagePreprocessor', mean=[0.0] * 3, std=[1.0] * 3)
    config.write_text(f'model = {dict(backbone=backbone, data_preprocessor=preprocessor)!r}')
    state = a2mim.load_model(file, config=config, weights=asked).model.state_dict()
    expected = raw if asked == 'raw' else averaged
    assert all(torch.equal(value, expected[key]) for key, value in state.items())
    with pytest.raises(ValueError, match="weights='best' must be one of averaged, raw"):
        a2mim.load_model(file, config=config, weights='best')
