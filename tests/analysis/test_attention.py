"""Attention against what is written down by hand."""

import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn

from a2mim.analysis.attention import attention_distance, attention_map, read_attention


def test_identity_has_no_distance() -> None:
    assert attention_distance(torch.eye(12)[None, None], (3, 4), (8, 8)).item() == 0


def test_uniform_attention_has_the_mean_distance() -> None:
    places = list(itertools.product(range(0, 24, 8), range(0, 64, 16)))
    wanted = np.mean([np.hypot(a - c, b - d) for a, b in places for c, d in places])
    found = attention_distance(torch.full((2, 3, 12, 12), 1 / 12), (3, 4), (8, 16))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, wanted)


def test_prefix_tokens_are_left_out() -> None:
    patches = torch.rand(1, 2, 6, 6).softmax(dim=-1)
    with_prefix = torch.full((1, 2, 8, 8), 0.25)
    with_prefix[..., 2:, 2:] = patches / 2
    torch.testing.assert_close(
        attention_distance(with_prefix, (2, 3), (4, 4)),
        attention_distance(patches, (2, 3), (4, 4)),
    )


def test_weights_are_softmax_of_queries_and_keys() -> None:
    model = timm.create_model('test_vit', img_size=(32, 64)).eval()
    images, inputs = torch.rand(2, 3, 32, 64), []
    block = model.blocks[2].attn
    handle = block.qkv.register_forward_hook(lambda _m, _i, output: inputs.append(output))
    found = read_attention(model, images, lambda attention: attention)
    handle.remove()
    heads, width = block.num_heads, block.head_dim
    query, key, _ = inputs[0].unflatten(2, (3, heads, width)).unbind(2)  # (B, N, A, D) each
    scores = torch.einsum('bnad,bmad->banm', query, key) / width**0.5
    torch.testing.assert_close(found['blocks.2.attn'], scores.softmax(dim=-1))
    assert len(found) == 6
    assert all(layer.attn.fused_attn == block.fused_attn for layer in model.blocks)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('beit_base_patch16_224', dict(embed_dim=32, depth=2, num_heads=2, img_size=32)),
        ('eva02_tiny_patch14_224', dict(embed_dim=24, depth=2, num_heads=2, img_size=28)),
        ('vit_relpos_small_patch16_224', dict(embed_dim=32, depth=2, num_heads=2, img_size=32)),
    ],
)
def test_rows_sum_to_one_and_the_output_is_as_before(name: str, options: dict) -> None:
    model = timm.create_model(name, **options).eval()
    images = torch.rand(2, 3, options['img_size'], options['img_size'])
    outputs = []
    handle = model.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    found = read_attention(model, images, lambda attention: attention)
    handle.remove()
    assert len(found) == 2
    for attention in found.values():
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))
    with torch.inference_mode():
        torch.testing.assert_close(outputs[0], model(images), atol=1e-5, rtol=1e-4)


def test_map_of_class_token_and_of_a_patch_on_a_rectangle() -> None:
    model = timm.create_model('test_vit', img_size=(32, 48))  # 2×3 patches
    attention = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert attention_map(model, attention, (2, 3), None)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert attention_map(model, attention, (2, 3), 0)[0, 0].tolist() == [[8, 9, 10], [11, 12, 13]]
    model.cls_token = None
    mean = attention[0, 0, 1:, 1:].mean(dim=0).reshape(2, 3)
    torch.testing.assert_close(attention_map(model, attention, (2, 3), None)[0, 0], mean)


@pytest.mark.parametrize(
    'name', ['test_resnet', 'test_efficientnet', 'swin_tiny_patch4_window7_224']
)
def test_networks_without_attention_between_all_patches_are_refused(name: str) -> None:
    with torch.device('meta'):
        model = timm.create_model(name)
    with pytest.raises(ValueError, match=f'{type(model).__name__} has no readable attention'):
        read_attention(model, torch.zeros(1), nn.Identity())
