import pytest
import timm
import torch
from torch import nn

from a2mim.analysis.latents import NoMapError, normalized_depths, read_latents


def maps(name, size=(160, 160), **options):
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    image = torch.randn(1, 3, *size)
    return model, image, read_latents(model, image, lambda features: features.clone())


@pytest.mark.parametrize(
    'name, size, number, kinds',
    [
        ('resnet50', (64, 64), 17, {'stem', 'block'}),
        ('test_resnet', (64, 96), 5, {'stem', 'block'}),
        ('test_convnext', (64, 96), 10, {'stem', 'block'}),
        ('test_vit', (160, 160), 13, {'stem', 'attention', 'mlp'}),
        ('efficientnet_b0', (64, 64), 17, {'stem', 'block'}),
        ('res2net50_14w_8s', (64, 64), 17, {'stem', 'block'}),
        ('poolformer_s12', (64, 64), 25, {'stem', 'attention', 'mlp'}),
        ('mixer_s16_224', (224, 224), 17, {'stem', 'attention', 'mlp'}),
        ('inception_v3', (128, 128), 5, {'stage'}),
        ('crossvit_tiny_240', (240, 240), 6, {'stage'}),
        ('tnt_s_legacy_patch16_224', (224, 224), 12, {'stage'}),
    ],
)
def test_every_residual_or_stage_is_read(name, size, number, kinds):
    _, _, found = maps(name, size)
    assert len(found) == number
    assert {latent.kind for latent, _ in found} == kinds
    assert all(features.ndim == 4 for _, features in found)
    assert normalized_depths(number)[0] == 0
    assert normalized_depths(number)[-1] == 1


def test_a_vit_is_read_as_its_blocks_compute_it():
    model, image, found = maps('test_vit', init_values=0.3)
    with torch.no_grad():
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(image))))
        states = [x]
        for block in model.blocks:
            states.append(x := x + block.ls1.gamma * block.attn(block.norm1(x)))
            states.append(x := x + block.ls2.gamma * block.mlp(block.norm2(x)))
    assert len(found) == len(states)
    for (_, features), state in zip(found, states, strict=True):
        expected = state[:, 1:].transpose(1, 2).reshape(features.shape)
        torch.testing.assert_close(features, expected)


@pytest.mark.parametrize('name, first', [('swin', 'norm2'), ('swinv2', 'mlp')])
def test_windows_are_read_between_attention_and_mlp(name, first):
    model, image, found = maps(
        dict(swin='swin_tiny_patch4_window7_224', swinv2='swinv2_tiny_window8_256')[name],
        (64, 64),
        img_size=64,
        window_size=4,
        depths=(1, 1, 1, 1),
        embed_dim=24,
        num_heads=(1, 2, 4, 8),
    )
    assert [latent.kind for latent, _ in found] == ['stem'] + 4 * ['attention', 'mlp']
    block = model.layers[0].blocks[0]
    with torch.no_grad():
        x = model.patch_embed(image)
        pre = first == 'norm2'
        attended = block._attn(block.norm1(x)) if pre else block.norm1(block._attn(x))
    torch.testing.assert_close(found[1][1], (x + attended).movedim(-1, 1))


def test_hooks_are_gone_afterwards():
    model, _, _ = maps('test_resnet', (64, 64))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_stages_are_those_of_timm():
    model, image, found = maps('inception_v3', (128, 128))
    with torch.no_grad():
        expected = model.forward_intermediates(image, intermediates_only=True)
    for (_, features), wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(features, wanted)


def test_a_model_without_blocks_and_stages_is_refused():
    with pytest.raises(NoMapError, match='Sequential has no forward_intermediates'):
        read_latents(nn.Sequential(nn.Conv2d(3, 3, 1)), torch.rand(1, 3, 8, 8), list)
