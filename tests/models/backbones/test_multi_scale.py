<<<<<<< HEAD
"""Maps from several depths of a trunk, as a detector takes them."""
=======
"""Maps from several depths: their shapes and values, for images of any size."""

import copy
>>>>>>> mmops

import pytest
import timm
import torch
<<<<<<< HEAD
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
=======

from a2mim.models.backbones import TimmBackbone

BEIT = dict(
    model_name='beit_base_patch16_224',
    embed_dim=32,
    depth=2,
    num_heads=2,
    use_abs_pos_emb=True,
    img_size=64,
)
SWIN = dict(
    model_name='swin_tiny_patch4_window7_224', embed_dim=24, depths=(1, 1, 1, 1), img_size=64
)
FAMILIES = [
    (dict(model_name='resnet18'), (1, 2, 3, 4), (4, 8, 16, 32)),
    (dict(model_name='test_convnext'), (0, 1, 2, 3), (4, 8, 16, 32)),
    (SWIN, (0, 1, 2, 3), (4, 8, 16, 32)),
    (dict(model_name='test_vit', img_size=64), (0, 2, 5), (16, 16, 16)),
    (dict(BEIT, use_rel_pos_bias=True), (0, 1), (16, 16)),
    (dict(BEIT, use_shared_rel_pos_bias=True, use_rel_pos_bias=False), (0, 1), (16, 16)),
]
NAMES = ['resnet', 'convnext', 'swin', 'vit', 'beit', 'beit_shared']


def build(options: dict, out_indices: tuple[int, ...] | None, **more: object) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(**options, out_indices=out_indices, **more)


@pytest.mark.parametrize(('options', 'indices', 'strides'), FAMILIES, ids=NAMES)
@pytest.mark.parametrize('size', [(64, 64), (75, 110)])
def test_every_map_has_its_width_and_covers_the_image(options, indices, strides, size):
    backbone = build(options, indices).eval()
    assert backbone.stride == strides
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, *size))
    for features, channels, stride in zip(maps, backbone.out_channels, strides, strict=True):
        assert features.shape[:2] == (2, channels)
        for cells, pixels in zip(features.shape[2:], size, strict=True):
            assert cells in (pixels // stride, -(-pixels // stride))


@pytest.mark.parametrize(('options', 'indices', 'strides'), FAMILIES, ids=NAMES)
def test_the_last_map_is_what_the_backbone_returned_in_pretraining(options, indices, strides):
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = build(options, None).eval()(image)
        torch.testing.assert_close(build(options, indices).eval()(image)[-1], expected)


@pytest.mark.parametrize(('options', 'indices', 'strides'), FAMILIES, ids=NAMES)
def test_the_weights_load_in_timm(options, indices, strides):
    state = build(options, indices).model.state_dict()
    timm.create_model(num_classes=0, global_pool='', **options).load_state_dict(state)


@pytest.mark.parametrize('options', [options for options, *_ in FAMILIES[3:]], ids=NAMES[3:])
def test_an_image_of_another_size_leaves_no_trace(options):
    backbone, image = build(options, (0, 1)).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(image)
        backbone(torch.randn(1, 3, 96, 48))
        after = backbone(image)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_vit_counts_blocks_from_zero_and_norms_the_last_one_only():
    backbone, image = build(dict(model_name='test_vit', img_size=64), (1, 5)).eval(), torch.ones(1)
    image = torch.randn(1, 3, 64, 64)
    seen = {}
    for index in (1, 5):
        backbone.model.blocks[index].register_forward_hook(
            lambda _module, _inputs, output, index=index: seen.update({index: output})
        )
    with torch.no_grad():
        lower, last = backbone(image)
        normed = backbone.model.norm(seen[5])
    prefix = backbone.model.num_prefix_tokens
    torch.testing.assert_close(lower.flatten(2).mT, seen[1][:, prefix:])
    torch.testing.assert_close(last.flatten(2).mT, normed[:, prefix:])


def test_padding_is_below_and_on_the_right():
    backbone = build(dict(model_name='test_vit', img_size=64), (0, 5)).eval()
    image = torch.randn(1, 3, 50, 60)
    padded = torch.nn.functional.pad(image, (0, 4, 0, 14))
    with torch.no_grad():
        for features, expected in zip(backbone(image), backbone(padded), strict=True):
            torch.testing.assert_close(features, expected)


def gradients(backbone: TimmBackbone, image: torch.Tensor) -> dict[str, torch.Tensor]:
    sum(features.square().mean() for features in backbone(image)).backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ('options', 'indices', 'strides'),
    [FAMILIES[0], FAMILIES[1], FAMILIES[3], FAMILIES[4]],
    ids=['resnet', 'convnext', 'vit', 'beit'],
)
def test_checkpointing_changes_no_gradient(options, indices, strides):
    image = torch.randn(2, 3, 64, 64)
    plain = gradients(build(options, indices).eval(), image)
    saving = gradients(build(options, indices, grad_checkpointing=True).eval(), image)
    assert plain.keys() == saving.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, msg=name)


def test_a_copy_reads_its_own_weights():
    backbone = build(dict(BEIT, use_rel_pos_bias=True), (0, 1)).eval()
    twin = copy.deepcopy(backbone)
    torch.nn.init.zeros_(backbone.model.patch_embed.proj.weight)
    image = torch.randn(1, 3, 96, 48)
    with torch.no_grad():
        assert not torch.equal(twin(image)[0], backbone(image)[0])


@pytest.mark.parametrize('indices', [(), (2, 1), (0, 0), (0, 99), (-1,)])
def test_depths_that_do_not_rise_within_the_model_are_refused(indices):
    with pytest.raises(ValueError, match=r'must rise within 0 to 4, the depths of ResNet'):
        build(dict(model_name='resnet18'), indices)


@pytest.mark.parametrize('role', [dict(mask_after='layer3'), dict(num_classes=10)])
def test_maps_belong_to_no_other_role(role):
    with pytest.raises(
        ValueError, match=r'are for a trunk that hides nothing'
    ):
        build(dict(model_name='resnet18'), (1, 2), **role)
>>>>>>> mmops
