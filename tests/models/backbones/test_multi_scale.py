"""Maps from several depths: their shapes and values, for images of any size."""

import copy

import pytest
import timm
import torch

from a2mim.models.timm_backbone import TimmBackbone

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
    with pytest.raises(ValueError, match=r'leave mask_after and num_classes out'):
        build(dict(model_name='resnet18'), (1, 2), **role)
