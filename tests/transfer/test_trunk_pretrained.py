"""Weights of a trunk: all of them, or an error that says what is wrong with the file."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.model import BaseModule, initialize
from torch import nn

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.transfer import TrunkPretrained
from a2mim.weights import fit
from a2mim.weights.files import save_file

BEIT = dict(
    model_name='beit_base_patch16_224',
    embed_dim=32,
    depth=2,
    num_heads=2,
    use_abs_pos_emb=True,
    use_rel_pos_bias=False,
)
WITH_TABLES = {**BEIT, 'use_rel_pos_bias': True}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines = []
    monkeypatch.setattr(fit, 'print_log', lambda line, **_: lines.append(line))
    return lines


def save(path: Path, model: nn.Module | str, **options: object) -> dict:
    """Write the weights of a timm model; return them."""
    torch.manual_seed(1)
    if isinstance(model, str):
        model = timm.create_model(model, **{'num_classes': 0, **options})
    state = model.state_dict()
    save_file(state, path)
    return state


def load(path: Path, model_name: str, **options: object) -> dict:
    torch.manual_seed(2)
    backbone = TimmBackbone(
        model_name,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint=str(path)),
        **{'out_indices': (0, 1), **options},
    )
    backbone.init_weights()
    return backbone.model.state_dict()


def refusal(path: Path, model_name: str, **options: object) -> str:
    with pytest.raises(ValueError, match=path.name) as info:
        load(path, model_name, **options)
    return str(info.value)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('name', ['resnet18', 'test_convnext', 'test_vit'])
def test_every_tensor_is_taken_and_counted(tmp_path, log, name, suffix):
    path = tmp_path / f'a.{suffix}'
    saved = save(path, name, global_pool='')
    own = load(path, name)
    assert own.keys() == saved.keys()
    assert all(torch.equal(own[key], saved[key]) for key in saved)
    assert log[0].endswith(f': {len(own)} tensors, 100% match')


@pytest.mark.parametrize('name', ['resnet18', 'test_convnext'])
def test_the_classifier_of_the_file_stays_there_and_is_named(tmp_path, log, name):
    save(tmp_path / 'a.pth', name, num_classes=7)
    load(tmp_path / 'a.pth', name)
    assert 'classifier not loaded' in log[0]
    assert 'fc.weight' in log[0]


def test_a_whole_checkpoint_of_a_pretraining_gives_its_trunk(tmp_path):
    source = TimmBackbone('resnet18', 'layer3')
    state = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    state['neck.projection.weight'] = torch.zeros(3, 8, 1, 1)
    torch.save(dict(state_dict=state, meta=dict(epoch=3)), tmp_path / 'a.pth')
    own = load(tmp_path / 'a.pth', 'resnet18')
    assert all(torch.equal(own[key], value) for key, value in source.model.state_dict().items())


@pytest.mark.filterwarnings('ignore:.*(bucketize|searchsorted|non-tuple)')
def test_positions_and_tables_are_resized_to_the_images_of_the_config(tmp_path):
    source = TimmBackbone(**WITH_TABLES, img_size=64)
    saved = save(tmp_path / 'a.pth', source.model)
    own = load(tmp_path / 'a.pth', **WITH_TABLES, img_size=96)
    assert (saved['pos_embed'].shape[1], own['pos_embed'].shape[1]) == (17, 37)
    table = 'blocks.0.attn.relative_position_bias_table'
    assert (saved[table].shape[0], own[table].shape[0]) == (52, 124)


def test_a_config_without_tables_leaves_them_out_and_resizes_the_embedding(tmp_path, log):
    source = TimmBackbone(**WITH_TABLES, img_size=64)
    save(tmp_path / 'a.pth', source.model)
    own = load(tmp_path / 'a.pth', **BEIT, img_size=96)
    assert own['pos_embed'].shape[1] == 37
    assert '2 left out (blocks.0.attn.relative_position_bias_table' in log[-1]


@pytest.mark.parametrize(
    ('file', 'model', 'reason'),
    [
        ('test_convnext', 'resnet18', 'the file is a ConvNeXt, the model a ResNet'),
        ('test_vit', 'test_convnext', 'the file is a ViT'),
        ('resnet34', 'resnet18', 'the file has 3+4+6+3 blocks, the model 2+2+2+2'),
        ('resnet18', 'resnet34', 'the file has 2+2+2+2 blocks, the model 3+4+6+3'),
        ('vit_tiny_patch16_224', 'vit_small_patch16_224', 'the file is 192 wide, the model 384'),
    ],
)
def test_another_architecture_is_refused_with_the_reason(tmp_path, file, model, reason):
    save(tmp_path / 'a.pth', file)
    assert reason in refusal(tmp_path / 'a.pth', model)


def test_one_missing_tensor_is_enough_to_refuse(tmp_path):
    state = save(tmp_path / 'a.pth', 'resnet18')
    del state['layer2.1.bn1.running_mean']
    save_file(state, tmp_path / 'a.pth')
    assert '1 not in the file (layer2.1.bn1.running_mean)' in refusal(
        tmp_path / 'a.pth', 'resnet18'
    )


def test_nothing_of_a_refused_file_is_taken(tmp_path):
    state = save(tmp_path / 'a.pth', 'resnet18')
    del state['layer4.1.bn2.weight']
    save_file(state, tmp_path / 'a.pth')
    model = timm.create_model('resnet18', num_classes=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'not in the file \(layer4\.1\.bn2\.weight'):
        TrunkPretrained(str(tmp_path / 'a.pth'))(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_classifier_alone_is_refused(tmp_path):
    state = {'fc.weight': torch.zeros(10, 512), 'fc.bias': torch.zeros(10)}
    save_file(state, tmp_path / 'a.pth')
    assert 'does not fit ResNet' in refusal(tmp_path / 'a.pth', 'resnet18')


def test_a_truncated_file_is_refused(tmp_path):
    save(tmp_path / 'a.pth', 'resnet18')
    content = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(content[: len(content) // 2])
    assert 'is truncated, damaged or no checkpoint' in refusal(tmp_path / 'a.pth', 'resnet18')


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth does not exist'):
        load(Path('nowhere.pth'), 'resnet18')


class SharedHead(BaseModule):
    """Names as in the head that a C4 detector shares: the last stage, and a new norm."""

    def __init__(self, init_cfg: dict) -> None:
        super().__init__(init_cfg)
        self.layer4 = timm.create_model('resnet18').layer4
        self.extra_norm = nn.BatchNorm2d(512)


def test_a_part_of_the_trunk_fills_the_module_that_holds_it(tmp_path, log):
    saved = save(tmp_path / 'a.pth', 'resnet18')
    init_cfg = dict(type='a2mim.TrunkPretrained', checkpoint=str(tmp_path / 'a.pth'), part='layer4')
    head = SharedHead(init_cfg)
    nn.init.constant_(head.extra_norm.weight, 7)
    head.init_weights()
    own = head.state_dict()
    for key in own:
        assert key.startswith('extra_norm.') or torch.equal(own[key], saved[key]), key
    assert head.extra_norm.weight.eq(7).all()
    assert '5 not in the file (extra_norm.weight' in log[0]


def test_a_part_of_another_depth_is_refused(tmp_path):
    save(tmp_path / 'a.pth', 'resnet34')
    init_cfg = dict(type='a2mim.TrunkPretrained', checkpoint=str(tmp_path / 'a.pth'), part='layer4')
    with pytest.raises(ValueError, match=r'does not fit SharedHead.layer4'):
        initialize(SharedHead(init_cfg), init_cfg)
