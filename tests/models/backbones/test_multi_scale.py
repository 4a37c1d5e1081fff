"""Maps from several depths of a trunk, as a detector takes them."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from a2mim.models.backbones.multi_scale import MultiScaleReader, apply_last_norm
from a2mim.models.backbones.timm_backbone import TimmBackbone

BEIT = dict(img_size=64, embed_dim=48, num_heads=3, depth=4, init_values=0.1)


def beit(**options: object) -> TimmBackbone:
    options = {**BEIT, 'use_abs_pos_emb': True, 'use_rel_pos_bias': False, **options}
    torch.manual_seed(0)
    backbone = TimmBackbone('beit_base_patch16_224', out_indices=(1, 3), **options)
    return backbone.eval()


@pytest.mark.parametrize(
    ('name', 'indices', 'strides'),
    [
        ('test_resnet', (1, 2, 3, 4), (4, 8, 16, 32)),
        ('test_convnext', (0, 1, 2, 3), (4, 8, 16, 32)),
        ('test_vit', (2, 5), (16, 16)),
    ],
)
def test_maps_have_the_strides_and_channels_that_the_backbone_states(name, indices, strides):
    backbone = TimmBackbone(name, out_indices=indices).eval()
    maps = backbone(torch.zeros(2, 3, 160, 96))
    assert backbone.stride == strides
    assert [tuple(item.shape) for item in maps] == [
        (2, channels, 160 // stride, 96 // stride)
        for channels, stride in zip(backbone.out_channels, strides, strict=True)
    ]


def test_weights_keep_the_names_of_timm():
    backbone = TimmBackbone('test_convnext', out_indices=(0, 1))
    trunk = timm.create_model('test_convnext', num_classes=0, global_pool='')
    trunk.load_state_dict(backbone.model.state_dict())
    assert {name.split('.')[0] for name, _ in backbone.named_parameters()} == {'model'}


def test_the_last_map_is_what_the_trunk_returns_at_its_end():
    image = torch.randn(1, 3, 64, 64)
    for name in ('test_convnext', 'test_resnet'):
        torch.manual_seed(0)
        plain = TimmBackbone(name).eval()
        torch.manual_seed(0)
        last = len(plain.model.feature_info) - 1
        (features,) = TimmBackbone(name, out_indices=(last,)).eval()(image)
        # The head of a ConvNeXt has its norm where no pooling comes before it.
        expected = apply_last_norm(plain.model, plain(image)) if 'resnet' in name else features
        torch.testing.assert_close(features, expected)


def test_the_last_map_of_a_vit_passes_its_last_norm_and_the_others_do_not():
    backbone = beit()
    nn.init.constant_(backbone.model.norm.weight, 0)
    nn.init.constant_(backbone.model.norm.bias, 7)
    middle, last = backbone(torch.randn(1, 3, 64, 64))
    assert torch.equal(last, torch.full_like(last, 7))
    assert middle.std() > 0
    assert not torch.equal(middle, last)


def test_positions_are_resized_to_an_image_of_another_shape():
    backbone, image = beit(), torch.randn(1, 3, 96, 32)
    maps = backbone(image)
    other = timm.create_model(
        'beit_base_patch16_224',
        num_classes=0,
        global_pool='',
        **{**BEIT, 'img_size': (96, 32)},
        use_abs_pos_emb=True,
        use_rel_pos_bias=False,
    ).eval()
    state = backbone.model.state_dict()
    state['pos_embed'] = resample_abs_pos_embed(state['pos_embed'], [6, 2], [4, 4])
    other.load_state_dict(state)
    expected = other.forward_intermediates(image, indices=[1, 3], intermediates_only=True)
    torch.testing.assert_close(maps[0], expected[0])


def test_positions_that_are_resized_learn():
    backbone = beit()
    backbone(torch.randn(1, 3, 96, 32))[0].sum().backward()
    assert backbone.model.pos_embed.grad.abs().sum() > 0


def test_every_parameter_gets_a_gradient():
    for backbone in (beit(), TimmBackbone('test_convnext', out_indices=(0, 1, 2, 3))):
        maps = backbone(torch.randn(2, 3, 64, 64))
        sum(features.square().mean() for features in maps).backward()
        assert [name for name, value in backbone.named_parameters() if value.grad is None] == []


def test_an_image_that_patches_do_not_tile_is_padded():
    maps = beit()(torch.zeros(1, 3, 70, 33))
    assert [tuple(item.shape[2:]) for item in maps] == [(5, 3), (5, 3)]


def test_tables_of_relative_positions_serve_an_image_of_another_shape():
    backbone = beit(use_rel_pos_bias=True)
    table = backbone.model.blocks[0].attn.relative_position_bias_table
    backbone(torch.randn(1, 3, 96, 32))[0].sum().backward()
    assert table.grad.abs().sum() > 0
    assert len(table) == 7 * 7 + 3


@pytest.mark.parametrize('indices', [(), (3, 1), (0, 99), (-1,), (1, 1)])
def test_depths_that_are_not_there_are_refused(indices):
    with pytest.raises(ValueError, match='must rise within 0 to 3, the depths of ConvNeXt'):
        TimmBackbone('test_convnext', out_indices=indices)


@pytest.mark.parametrize('options', [dict(mask_after='stages.1'), dict(num_classes=3)])
def test_several_maps_exclude_masks_and_classes(options):
    with pytest.raises(ValueError, match='leave mask_after and num_classes out'):
        TimmBackbone('test_convnext', out_indices=(0, 1), **options)


def test_a_model_that_timm_reads_at_its_end_only_is_refused():
    with pytest.raises(ValueError, match='Linear at its end only'):
        MultiScaleReader(nn.Linear(2, 2), (0,))
