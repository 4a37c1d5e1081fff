"""What every wrapped timm trunk keeps to, whatever its family."""

import copy
from functools import cache

import pytest
import timm
import torch
from torch import Tensor

from a2mim.models.timm_backbone import TimmBackbone

SMALL_BEIT = dict(embed_dim=48, depth=3, num_heads=4, use_abs_pos_emb=True, use_rel_pos_bias=True)
SMALL_SWIN = dict(img_size=64, window_size=2, depths=(1, 1, 2, 1), embed_dim=24, drop_path_rate=0)
# name, mask_after, options
CASES = {
    'resnet': ('resnet18', 'layer3', {}),
    'resnet stem': ('resnet18', 'maxpool', {}),
    'convnext': ('convnext_atto', 'stages.2', {}),
    'convnext after downsampling': ('convnext_atto', 'stages.3.downsample', {}),
    'regnet by index': ('regnetx_002', -2, {}),
    'mobilenet by index': ('mobilenetv3_small_050', -2, {}),
    'vit': ('vit_tiny_patch16_224', 'blocks.1', dict(img_size=64, depth=3)),
    'vit before positions': ('vit_tiny_patch16_224', 'patch_embed', dict(img_size=64, depth=2)),
    'vit of any size': (
        'vit_tiny_patch16_224',
        'patch_embed',
        dict(img_size=64, depth=2, dynamic_img_size=True),
    ),
    'vit with registers': ('vit_tiny_patch16_224', 1, dict(img_size=64, depth=3, reg_tokens=4)),
    'beit': ('beit_base_patch16_224', 'patch_embed', dict(img_size=64, **SMALL_BEIT)),
    'cait, class token late': ('cait_xxs24_224', 'blocks.1', dict(img_size=64, depth=2)),
    'swin': ('swin_tiny_patch4_window7_224', 'layers.2', SMALL_SWIN),
    'swin before positions': ('swin_tiny_patch4_window7_224', 'patch_embed', SMALL_SWIN),
}
every_family = pytest.mark.parametrize('case', CASES)


@cache
def built(case: str) -> TimmBackbone:
    name, mask_after, options = CASES[case]
    torch.manual_seed(0)
    return TimmBackbone(name, mask_after=mask_after, **options)


def build(case: str) -> TimmBackbone:
    """A backbone of one's own; copying is cheaper than building."""
    return copy.deepcopy(built(case))


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 64, 64), torch.tensor([[[1.0, 0], [0, 1]], [[0, 0], [1, 1]]])


def gradients(backbone: TimmBackbone, *passes: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    backbone.zero_grad()
    sum(backbone(*inputs).square().mean() for inputs in passes).backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


@every_family
def test_weights_load_strictly_in_timm(case):
    name, _, options = CASES[case]
    plain = timm.create_model(name, num_classes=0, global_pool='', **options)
    plain.load_state_dict(built(case).model.state_dict(), strict=True)


@every_family
def test_without_a_mask_the_output_is_that_of_timm(case):
    backbone, (image, _) = build(case).eval(), batch()
    with torch.no_grad():
        features, plain = backbone(image), backbone.model(image)
    tokens = plain.flatten(1, 2) if plain.ndim == 4 else plain
    assert features.shape == (2, backbone.out_channels, *(64 // backbone.stride,) * 2)
    if plain.shape == features.shape:
        assert torch.equal(features, plain)
    else:
        assert torch.equal(
            features.flatten(2).transpose(1, 2), tokens[:, -features[0, 0].numel() :]
        )


@every_family
def test_a_mask_that_hides_nothing_changes_nothing(case):
    backbone, (image, mask) = build(case).eval(), batch()
    with torch.no_grad():
        assert torch.equal(backbone(image, torch.zeros_like(mask)), backbone(image))
        assert not torch.equal(backbone(image, mask), backbone(image))


@every_family
def test_gradient_reaches_the_token_and_all_of_the_trunk(case):
    backbone, (image, mask) = build(case).train(), batch()
    reached = gradients(backbone, (image, mask))
    assert set(reached) == {name for name, _ in backbone.named_parameters()}
    assert reached['mask_token.token'].abs().sum() > 0


@every_family
def test_checkpointing_gives_the_same_gradients(case):
    # Two passes before one backward: each has to be replayed with its own mask.
    backbone, (image, mask) = build(case).train(), batch()
    passes = (image, mask), (image.flip(0), 1 - mask)
    torch.manual_seed(0)
    plain = gradients(backbone, *passes)
    replayed = build(case).train()
    replayed.model.set_grad_checkpointing(True)
    replayed.grad_checkpointing = True
    torch.manual_seed(0)
    for name, gradient in gradients(replayed, *passes).items():
        assert torch.equal(gradient, plain[name]), name


@every_family
def test_a_copy_has_a_token_of_its_own(case):
    backbone, (image, mask) = build(case).eval(), batch()
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        before = backbone(image, mask)
        twin.mask_token.token.fill_(1.0)
        assert torch.equal(backbone(image, mask), before)
        assert not torch.equal(twin(image, mask), before)
        assert torch.equal(twin(image), backbone(image))


@pytest.mark.integration
@pytest.mark.parametrize('case', ['resnet', 'vit', 'swin'])
def test_it_compiles_to_one_graph_and_follows_the_mask(case):
    backbone, (image, mask) = build(case).eval(), batch()
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        for hidden in (mask, 1 - mask):
            assert torch.equal(compiled(image, hidden), backbone(image, hidden))
    torch.compiler.reset()


@pytest.mark.integration
@pytest.mark.parametrize('case', ['resnet', 'convnext', 'vit before positions', 'swin'])
def test_it_compiles_to_one_graph_with_checkpointing_too(case):
    backbone, (image, mask) = build(case).train(), batch()
    replayed = build(case).train()
    replayed.model.set_grad_checkpointing(True)
    replayed.grad_checkpointing = True
    replayed.compile(fullgraph=True, backend='aot_eager')
    for masked in (mask, 1 - mask):
        plain = gradients(backbone, (image, masked))
        torch.testing.assert_close(gradients(replayed, (image, masked)), plain)
    torch.compiler.reset()


@pytest.mark.parametrize('case', ['resnet', 'convnext', 'vit', 'swin'])
def test_it_runs_under_autocast(case):
    backbone, (image, mask) = build(case).train(), batch()
    with torch.autocast('cpu', torch.bfloat16):
        features = backbone(image, mask)
    features.float().mean().backward()
    assert backbone.mask_token.token.grad.dtype == torch.float32


@pytest.mark.parametrize('case', ['vit before positions', 'swin before positions', 'beit'])
def test_a_replaced_patch_cannot_be_seen(case):
    name, mask_after, options = CASES[case]
    backbone = TimmBackbone(name, mask_after, mask_token=dict(mode='replace'), **options).eval()
    image, mask = batch()
    hidden = mask.repeat_interleave(32, 1).repeat_interleave(32, 2).unsqueeze(1)
    with torch.no_grad():
        other = image * (1 - hidden) + 7 * hidden
        assert torch.equal(backbone(image, mask), backbone(other, mask))
        assert not torch.equal(backbone(image), backbone(other))


@pytest.mark.parametrize('case, num_prefix', [('vit', 1), ('vit with registers', 5)])
def test_class_token_and_registers_stay_visible(case, num_prefix):
    backbone, (image, mask) = build(case).eval(), batch()
    seen = []
    backbone.model.blocks[1].register_forward_hook(lambda _m, _i, tokens: seen.append(tokens))
    with torch.no_grad():
        backbone(image)
        backbone(image, torch.ones_like(mask))
    assert torch.equal(seen[0][:, :num_prefix], seen[1][:, :num_prefix])
    expected = (seen[0] + backbone.mask_token.token)[:, num_prefix:]
    assert torch.equal(seen[1][:, num_prefix:], expected)


@pytest.mark.parametrize(
    'name, mask_after, options',
    [
        ('resnet18', 'layer3', {}),
        ('vit_tiny_patch16_224', 'blocks.0', dict(img_size=(64, 96), depth=2)),
        ('swin_tiny_patch4_window7_224', 'layers.2', {**SMALL_SWIN, 'img_size': (64, 96)}),
    ],
)
def test_rectangular_images_and_other_channels_work(name, mask_after, options):
    backbone = TimmBackbone(name, mask_after, in_chans=5, **options).eval()
    mask = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]])
    image = torch.randn(1, 5, 64, 96)
    seen = []
    with torch.no_grad():
        features = backbone(image, mask)
        backbone.mask_token.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[1]))
        backbone(image, mask)
    assert features.shape == (
        1,
        backbone.out_channels,
        64 // backbone.stride,
        96 // backbone.stride,
    )
    assert torch.equal(seen[0].reshape(4, 6)[::2, ::2], mask[0])


def test_a_dynamic_vit_takes_another_size_than_it_was_built_with():
    backbone = build('vit of any size').eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 96, 64), torch.ones(1, 3, 2))
    assert features.shape == (1, 192, 6, 4)


def test_building_leaves_weights_statistics_and_random_state_to_timm():
    torch.manual_seed(1)
    plain = timm.create_model('resnet18', num_classes=0, global_pool='')
    state = torch.get_rng_state()
    torch.manual_seed(1)
    backbone = TimmBackbone('resnet18')
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(own, other)
        for own, other in zip(
            backbone.model.state_dict().values(), plain.state_dict().values(), strict=True
        )
    )
    assert all(module.training for module in backbone.modules())


def test_the_trunk_alone_is_never_masked():
    backbone, (image, mask) = build('resnet').train(), batch()
    backbone.grad_checkpointing = True
    backbone.model.set_grad_checkpointing(True)
    plain = backbone.model(image)
    backbone(image, mask).sum().backward()
    assert torch.equal(backbone.model(image), plain)


def test_a_size_that_the_stride_does_not_divide_is_no_obstacle():
    # EfficientNet-B4 is made for 380 pixels and has stride 32.
    with torch.device('meta'):
        backbone = TimmBackbone('efficientnet_b4', -2)
    assert (backbone.stride, backbone.mask_stride) == (32, 16)


def test_a_classifier_is_the_whole_of_timms():
    backbone = TimmBackbone('resnet18', num_classes=7)
    timm.create_model('resnet18', num_classes=7).load_state_dict(backbone.model.state_dict())
    assert backbone(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    assert backbone.mask_token is None


@pytest.mark.parametrize(
    'name, expected',
    [
        ('resnet18', True),
        ('convnext_atto', True),
        ('efficientnet_b0', True),
        ('vit_tiny_patch16_224', False),
        ('swin_tiny_patch4_window7_224', False),
        ('mixer_s32_224', False),
    ],
)
def test_convolutional_trunks_prefer_channels_last(name, expected):
    assert TimmBackbone(name).prefers_channels_last is expected
