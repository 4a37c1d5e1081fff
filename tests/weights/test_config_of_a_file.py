"""What the config inside a file may ask for, whichever program builds from it."""

from pathlib import Path

import pytest
import torch
from mmengine import Config

from a2mim.engine.mmengine_fixes import silence_harmless_warnings
from a2mim.engine.replay import KIND, replay
from a2mim.models.timm_backbone import TimmBackbone
from a2mim.registry import MODELS
from a2mim.weights.load_model import load_model
from a2mim.weights.recipe import build_model, literal_config
from toy_run import load_tool, toy_config


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    silence_harmless_warnings()


def failed_step(**changes: object) -> dict:
    """A failed step of the toy run whose config has ``changes``, by dotted names with ``__``."""
    config = toy_config(Path('data'))
    state = MODELS.build(config.model).state_dict()
    for name, value in changes.items():
        config.merge_from_dict({name.replace('__', '.'): value})
    image, label = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1])
    steps = [dict(iteration=0, batch=dict(image=image, label=label), loss=1.0)]
    return dict(
        kind=KIND,
        iteration=0,
        rank=0,
        world_size=1,
        seed=0,
        loss_scale=1.0,
        steps=steps,
        grad_norm=1.0,
        state_dict=state,
        config=config.pretty_text,
    )


CALL = dict(type='os.mkdir', path='made')
# Everything in a config that mmengine would import and call, or read.
PLANTED = {
    'model': dict(model=dict(_delete_=True, **CALL)),
    'model, of a scope': dict(model=dict(_delete_=True, type='mmengine.os.mkdir', path='made')),
    'preprocessor': dict(model__data_preprocessor=dict(_delete_=True, **CALL)),
    'loss': dict(model__loss=dict(_delete_=True, **CALL)),
    'backbone': dict(model__backbone=dict(_delete_=True, **CALL)),
    'list': dict(model__extra=[[CALL]]),
    'scope': dict(model__backbone___scope_='somewhere'),
    'timm': dict(model__backbone__model_name='hf-hub:somebody/something'),
    'wrapper': dict(optim_wrapper=dict(_delete_=True, **CALL)),
    'optimiser': dict(optim_wrapper__optimizer=dict(_delete_=True, **CALL)),
    'optimiser of a scope': dict(optim_wrapper__optimizer__type='mmengine.os.mkdir'),
    'constructor': dict(optim_wrapper__constructor='os.mkdir'),
}


@pytest.mark.parametrize('changes', PLANTED.values(), ids=PLANTED)
def test_a_failed_step_asks_for_registered_types_only(changes):
    with pytest.raises(ValueError, match=r'asks for .*: refused'):
        replay(failed_step(**changes))
    assert not Path('made').exists()


def test_the_scope_that_a_failed_step_names_is_not_imported(monkeypatch):
    Path('planted.py').write_text("import os\nos.mkdir('made')\n")
    monkeypatch.syspath_prepend('.')
    assert not replay(failed_step(default_scope='planted')).failed
    assert not Path('made').exists()


def test_the_tool_refuses_in_one_line(capsys):
    torch.save(failed_step(**PLANTED['model']), 'step.pth')
    with pytest.raises(SystemExit) as exit_:
        load_tool('replay_step').main(['step.pth'])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert not Path('made').exists()


def test_initial_weights_that_a_config_names_are_not_read():
    file = dict(type='Pretrained', checkpoint='gone.pth')
    overlay = dict(file='gone.pth')
    changes = dict(init_cfg=file, pretrained=True, pretrained_cfg_overlay=overlay)
    changes = {f'model__backbone__{name}': value for name, value in changes.items()}
    assert not replay(failed_step(**changes)).failed


# A bomb by its size: what the largest option of each kind would make.
LARGE = dict(
    depth=dict(depth=10_000_000),
    blocks=dict(depth=90_000),
    width=dict(embed_dim=96_000, num_heads=8),
    lists=dict(model_name='resnet18', layers=[90_000, 2, 2, 2]),
)


def checkpoint(options: dict) -> dict:
    """A checkpoint with the weights of a small ViT, whose config describes another one."""
    backbone = dict(type='TimmBackbone', model_name='test_vit', num_classes=3)
    state = {f'backbone.{key}': v for key, v in TimmBackbone('test_vit').state_dict().items()}
    config = Config(dict(model=dict(backbone={**backbone, **options})))
    return dict(state_dict=state, meta=dict(cfg=config.pretty_text))


@pytest.mark.parametrize('options', LARGE.values(), ids=LARGE)
def test_a_model_that_is_larger_than_its_file_is_refused_before_it_is_there(options):
    content = checkpoint(options)
    config = literal_config(content['meta']['cfg'])['model']['backbone']
    with pytest.raises(ValueError, match=r'a.pth: its config asks for .*: refused'):
        build_model(config, content['state_dict'], 'a.pth')


def test_converters_refuse_it_too():
    torch.save(checkpoint(LARGE['depth']), 'a.pth')
    for tool, more in (('extract_backbone_weights', []), ('export_backbone', ['--to', 'timm'])):
        with pytest.raises(ValueError, match=r'its config asks for depth=10000000, .*: refused'):
            load_tool(f'model_converters/{tool}').main(['a.pth', f'{tool}.pth', *more])
        assert not Path(f'{tool}.pth').exists()


DEEP = {
    'minus': 'a = ' + '-' * 100_000 + '1',
    'plus': 'a = ' + '1 + ' * 50_000 + '1',
    'attributes': 'a = a' + '.b' * 50_000,
    'lists': 'a = ' + '[' * 90 + ']' * 90,
    'long': 'a = [' + '1, ' * 500_000 + ']',
    'large': 'a = ' + '9' * 4000,
}


@pytest.mark.parametrize('text', DEEP.values(), ids=DEEP)
def test_a_text_that_is_a_bomb_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match='refused') as error:
        literal_config(text)
    assert '\n' not in str(error.value) and len(str(error.value)) < 200
    torch.save(dict(state_dict={'backbone.a': torch.ones(1)}, meta=dict(cfg=text)), 'a.pth')
    with pytest.raises(ValueError, match='refused'):
        load_model('a.pth')


def test_a_config_of_21000_names_of_classes_is_read():
    names = [f'n{number:08} some animal' for number in range(21_843)]
    assert literal_config(f'classes = {names}') == {'classes': names}
