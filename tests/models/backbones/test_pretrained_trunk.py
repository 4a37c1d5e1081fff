"""``init_cfg=dict(type='Pretrained')``: trunks out of files of every kind, or a clear refusal."""

import pytest
import timm
import torch

from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights.files import save_file

BEIT = dict(
    model_name='beit_base_patch16_224',
    embed_dim=32,
    depth=2,
    num_heads=2,
    use_abs_pos_emb=True,
    use_rel_pos_bias=True,
)


def load(path, **options) -> TimmBackbone:
    torch.manual_seed(1)
    backbone = TimmBackbone(**options, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    return backbone


def save_pretraining(path, backbone: TimmBackbone) -> dict:
    """What a pre-training run writes, as far as this matters here."""
    state = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    state['neck.projection.weight'] = torch.zeros(3, 8, 1, 1)
    torch.save(dict(state_dict=state, meta=dict(epoch=3)), path)
    return backbone.model.state_dict()


@pytest.mark.parametrize('num_classes', [0, 10])
def test_a_pretraining_checkpoint_starts_a_trunk_or_a_classifier(tmp_path, num_classes):
    trained = save_pretraining(tmp_path / 'a.pth', TimmBackbone('resnet18', 'layer3'))
    backbone = load(tmp_path / 'a.pth', model_name='resnet18', num_classes=num_classes)
    own = backbone.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in trained.items())


def test_the_final_norm_makes_room_for_the_norm_after_pooling(tmp_path):
    save_pretraining(tmp_path / 'a.pth', TimmBackbone(**BEIT, img_size=64, mask_after=0))
    classifier = load(tmp_path / 'a.pth', **BEIT, img_size=64, num_classes=10)
    assert classifier.model.fc_norm.weight.eq(1).all()


# timm's interpolation indexes with a list.
@pytest.mark.filterwarnings('ignore:.*(bucketize|searchsorted|non-tuple)')
def test_positions_are_resized_to_another_image_size(tmp_path):
    source = TimmBackbone(**BEIT, img_size=64)
    rows = torch.arange(-3.0, 4).view(7, 1, 1).expand(7, 7, 2).reshape(49, 2)  # row distance
    source.model.blocks[0].attn.relative_position_bias_table.data[:49] = rows
    trained = save_pretraining(tmp_path / 'a.pth', source)
    backbone = load(tmp_path / 'a.pth', **BEIT, img_size=96)
    own = backbone.model.state_dict()
    table = 'blocks.0.attn.relative_position_bias_table'
    assert (trained['pos_embed'].shape[1], own['pos_embed'].shape[1]) == (17, 37)
    assert torch.equal(own['pos_embed'][:, 0], trained['pos_embed'][:, 0])
    assert (trained[table].shape[0], own[table].shape[0]) == (52, 124)
    resized = own[table][:121].view(11, 11, 2)
    torch.testing.assert_close(resized, resized[:, :1].expand_as(resized))
    torch.testing.assert_close(resized, -resized.flip(0))
    assert (resized.diff(dim=0) > 0).all()
    assert torch.equal(own['blocks.1.mlp.fc1.weight'], trained['blocks.1.mlp.fc1.weight'])


def test_a_classifier_of_other_classes_gives_its_trunk(tmp_path):
    trained = timm.create_model('resnet18', num_classes=7).state_dict()
    save_file(trained, tmp_path / 'a.safetensors')
    backbone = load(tmp_path / 'a.safetensors', model_name='resnet18', num_classes=5)
    assert torch.equal(backbone.model.conv1.weight, trained['conv1.weight'])
    assert backbone.model.fc.weight.shape == (5, 512)


@pytest.mark.parametrize('other', ['resnet34', 'convnext_atto', 'vit_tiny_patch16_224'])
def test_another_architecture_is_refused_and_nothing_changed(tmp_path, other):
    save_file(timm.create_model(other, num_classes=0).state_dict(), tmp_path / 'a.pth')
    torch.manual_seed(1)
    untouched = TimmBackbone('resnet18').state_dict()
    backbone = TimmBackbone(
        'resnet18', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    )
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert before.keys() == untouched.keys()
    with pytest.raises(ValueError, match=r'a.pth: .*does not fit ResNet: .*another architecture'):
        backbone.init_weights()
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_another_channel_count_is_adapted(tmp_path):
    state = timm.create_model('resnet18').state_dict()
    save_file(state, tmp_path / 'a.pth')
    backbone = load(tmp_path / 'a.pth', model_name='resnet18', in_chans=1)
    summed = state['conv1.weight'].sum(dim=1, keepdim=True)
    torch.testing.assert_close(backbone.model.conv1.weight.data, summed)
    assert torch.equal(backbone.model.layer4[1].conv2.weight, state['layer4.1.conv2.weight'])
