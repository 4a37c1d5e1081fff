"""The extraction tool: its files load strictly in timm, and its output is correct."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from mmengine import Config

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights.safe_load import load_file

pytestmark = pytest.mark.integration

STATES = Path(__file__).parents[1] / 'data' / 'backbones' / 'parity.json'
TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'extract_backbone_weights.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('extract_backbone_weights', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretrain(path: Path, **options: object) -> TimmBackbone:
    """Write what a pre-training run of mmengine writes."""
    backbone = TimmBackbone(**options)
    state = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    config = Config(dict(model=dict(type='A2MIM', backbone=dict(type='TimmBackbone', **options))))
    content = dict(
        state_dict={**state, 'neck.projection.bias': torch.zeros(3)},
        ema_state_dict={f'module.{key}': value + 1 for key, value in state.items()},
        meta=dict(epoch=1, cfg=config.pretty_text),
        optimizer=dict(state={}, param_groups=[]),
    )
    torch.save(content, path)
    return backbone


def run(tool: ModuleType, *arguments: object) -> None:
    tool.main([str(argument) for argument in arguments])


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_backbone_of_ours_loads_in_timm_and_torch(tool, tmp_path, suffix, capsys):
    source, out = tmp_path / 'latest.pth', tmp_path / f'trunk{suffix}'
    trained = pretrain(source, model_name='resnet50', mask_after='layer3').model.state_dict()
    run(tool, source, out)

    model = timm.create_model('resnet50', num_classes=0, global_pool='', checkpoint_path=str(out))
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())
    with torch.device('meta'):
        classifier = timm.create_model('resnet50')
    missing, unexpected = classifier.load_state_dict(load_file(out), strict=False, assign=True)
    assert (missing, unexpected) == (['fc.weight', 'fc.bias'], [])

    text = capsys.readouterr().out
    assert 'kept      318 tensors  backbone.model.*' in text
    assert 'dropped     1 tensors  neck.*' in text
    assert 'checked: loads strictly' in text
    assert f"'resnet50', num_classes=0, global_pool='', checkpoint_path='{out}')" in text


def test_the_line_to_paste_has_the_options_of_the_config(tool, tmp_path, capsys):
    source, out = tmp_path / 'latest.pth', tmp_path / 'trunk.pth'
    options = dict(img_size=64, embed_dim=48, depth=2, num_heads=4, use_rel_pos_bias=True)
    pretrain(source, model_name='beit_base_patch16_224', mask_after='patch_embed', **options)
    run(tool, source, out)
    text = capsys.readouterr().out
    assert 'checked: loads strictly' in text
    (line,) = (line for line in text.splitlines() if line.startswith('model = '))
    model = eval(line.removeprefix('model = '), {'timm': timm})  # what a person does
    assert model.pos_embed is None
    assert len(model.blocks) == 2


@pytest.mark.parametrize(
    'published, family, line',
    [
        ('resnet50', None, "timm.create_model('resnet50', num_classes=0"),
        ('convnext_tiny', 'convnext', "timm.create_model('convnext_tiny', num_classes=0"),
        ('vit_with_tables', 'beit', "timm.create_model('beit_base_patch16_224', num_classes=0"),
    ],
)
def test_a_published_file_is_written_with_timm_keys(
    tool, tmp_path, capsys, published, family, line
):
    shapes = json.loads(STATES.read_text(encoding='utf-8'))['states'][published]
    extra = {'backbone.mask_token': (1, 1, 8), 'neck.decoder.0.bias': (3,), 'ema_backbone_x': (1,)}
    shapes = {**{f'backbone.{key}': shape for key, shape in shapes.items()}, **extra}
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    torch.save(dict(state_dict=state, author='openmixup'), tmp_path / 'in.pth')
    run(tool, tmp_path / 'in.pth', tmp_path / 'out.safetensors')
    text = capsys.readouterr().out
    assert 'checked: loads strictly' in text
    assert line in text
    assert ('translated the published names' in text) is bool(family)
    assert len(load_file(tmp_path / 'out.safetensors')) == len(shapes) - len(extra)


def test_it_never_overwrites_unasked(tool, tmp_path):
    source, out = tmp_path / 'latest.pth', tmp_path / 'trunk.pth'
    pretrain(source, model_name='resnet18', mask_after='layer3')
    out.write_text('precious')
    with pytest.raises(FileExistsError, match=r'trunk.pth exists.*--force'):
        run(tool, source, out)
    assert out.read_text() == 'precious'
    run(tool, source, out, '--force')
    assert 'conv1.weight' in load_file(out)


@pytest.mark.parametrize(
    'content, words',
    [
        (dict(state_dict={'neck.bias': torch.ones(1)}), r"no backbone found.*\['neck.bias'\]"),
        (dict(meta=dict(epoch=1)), r"no weights found.*\['meta'\]"),
    ],
)
def test_a_file_without_a_backbone_is_refused_and_nothing_written(tool, tmp_path, content, words):
    torch.save(content, tmp_path / 'in.pth')
    with pytest.raises(ValueError, match=words):
        run(tool, tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_another_suffix_and_a_missing_file_are_refused(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        run(tool, tmp_path / 'none.pth', tmp_path / 'out.pth')
    pretrain(tmp_path / 'in.pth', model_name='resnet18', mask_after='layer3')
    with pytest.raises(ValueError, match=r'out.bin must end in \.pth'):
        run(tool, tmp_path / 'in.pth', tmp_path / 'out.bin')
