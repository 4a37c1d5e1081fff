"""Numbers of the published system that other tests do not pin.

Every kind of token, the decoder on a ConvNeXt, and the read-out of a fine-tuned ViT.

Float64 in evaluation mode; weights by rank of their published name, see data/README.md.
"""

import math
import re

import pytest
import torch
from torch import Tensor

from a2mim.models.decoder import PixelShuffleDecoder
from a2mim.models.timm_backbone import TimmBackbone
from a2mim.weights.names import to_a2mim


def wave(shape: tuple[int, ...], step: float, start: float = 0.0) -> Tensor:
    return torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64) + start).view(shape)


def weight(key: str, rank: int, shape: tuple[int, ...]) -> Tensor:
    """The weight of the published parameter ``key``, ``rank``-th in alphabetical order."""
    s, leaf = wave(shape, 0.37, 0.11 * rank), key.rsplit('.', 1)[-1]
    rules = {
        'running_var': lambda: 1 + 0.1 * s.square(),
        'running_mean': lambda: 0.1 * s,
        **dict.fromkeys(('gamma', 'gamma_1', 'gamma_2', 'mask_gamma'), lambda: 0.5 + 0.1 * s),
        **dict.fromkeys(
            ('pos_embed', 'cls_token', 'mask_token', 'relative_position_bias_table'),
            lambda: 0.2 * s,
        ),
    }
    if leaf in rules:
        return rules[leaf]()
    if len(shape) == 1:
        return 1 + 0.1 * s if leaf == 'weight' else 0.1 * s
    return s * math.sqrt(2 / (s.numel() / shape[0]))


def load_published(backbone: TimmBackbone, shapes: dict[str, tuple[int, ...]]) -> TimmBackbone:
    """Fill ``backbone`` with the weights of the published keys and ``shapes``, by key map."""
    ranked = enumerate(sorted(shapes))
    state = to_a2mim({f'backbone.{key}': weight(key, rank, shapes[key]) for rank, key in ranked})
    state = {key.removeprefix('backbone.'): value for key, value in state.items()}
    missing, unexpected = backbone.double().load_state_dict(state, strict=False)
    assert set(unexpected) <= {'mask_token.token'}  # computed kinds store none
    assert all(
        key.endswith(('num_batches_tracked', 'model.head.weight', 'model.head.bias'))
        for key in missing
    )
    return backbone.eval()


def image_and_mask(size: int, grid: int) -> tuple[Tensor, Tensor]:
    b, i, j = torch.meshgrid(torch.arange(2), torch.arange(grid), torch.arange(grid), indexing='ij')
    return wave((2, 3, size, size), 0.01), ((grid * i + j + b) % 5 < 3).double()


@pytest.mark.parametrize(
    'mask_after, mask_token, published, mean',
    [
        ('layer3', dict(mode='replace'), ['mask_token'], 0.9431003624),
        ('layer3', dict(mode='replace', value='zero'), ['mask_token'], 0.9431003624),
        ('layer3', dict(mode='replace', value='randn'), ['mask_token'], 0.9431003624),
        ('layer3', dict(mode='replace', value='instance_mean'), [], 0.0872287998),
        ('layer3', dict(mode='replace', value='mean'), ['mask_token'], 0.0872512319),
        ('layer3', dict(gamma_init=1e-6), ['mask_gamma', 'mask_token'], 0.9652329786),
        (None, None, [], 0.0882585036),
    ],
    ids=['learnable', 'zero', 'randn', 'instance_mean', 'mean', 'gamma', 'none'],
)
def test_every_kind_of_token_gives_the_published_number(mask_after, mask_token, published, mean):
    backbone = TimmBackbone('resnet50', mask_after=mask_after, mask_token=mask_token)
    state = backbone.model.state_dict()
    shapes = {k: v.shape for k, v in state.items() if not k.endswith('num_batches_tracked')}
    shapes |= dict.fromkeys(published, (1, 1024, 1, 1))
    load_published(backbone, shapes)
    with torch.no_grad():
        output = backbone(*image_and_mask(64, 4))
    assert output.shape == (2, 2048, 2, 2)
    assert output.mean().item() == pytest.approx(mean, abs=1e-10)


def test_fine_tuned_vit_reads_out_like_the_published_one():
    backbone = TimmBackbone(
        'beit_base_patch16_224',
        num_classes=10,
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=4,
        mlp_ratio=2,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
    )
    shapes = {
        published_name(key): tensor.shape
        for key, tensor in backbone.model.state_dict().items()
        if not key.startswith('head.')
    }
    load_published(backbone, shapes)
    with torch.no_grad():
        features = backbone.model.forward_features(image_and_mask(32, 4)[0])
        pooled = backbone.model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, 32)
    assert pooled.mean().item() == pytest.approx(-0.0022407338, abs=1e-10)
    assert pooled.abs().mean().item() == pytest.approx(0.8365184593, abs=1e-10)
    torch.testing.assert_close(
        pooled[0, :2], torch.tensor([1.61299298, 1.94877061]).double(), rtol=0, atol=1e-7
    )


def test_decoder_and_convnext_give_the_published_numbers():
    backbone = TimmBackbone(
        'convnext_tiny',
        mask_after='stem',
        mask_token=dict(mode='replace'),
        depths=(1, 1, 2, 1),
        dims=(16, 32, 64, 128),
    )
    shapes = {published_name(k): v.shape for k, v in backbone.model.state_dict().items()}
    load_published(backbone, {**shapes, 'mask_token': (1, 16, 1, 1)})
    decoder = PixelShuffleDecoder(in_channels=128, stride=32).double()
    published = to_a2mim(
        {
            'backbone.layer1.0.conv1.weight': torch.zeros(1),
            'neck.decoder_pred.0.bias': weight('bias', 0, (3072,)),
            'neck.decoder_pred.0.weight': weight('weight', 1, (3072, 128, 1, 1)),
        }
    )
    decoder.load_state_dict(
        {key[5:]: value for key, value in published.items() if key.startswith('neck.')}
    )
    with torch.no_grad():
        features = backbone(*image_and_mask(64, 16))
        reconstruction = decoder(features)
    assert features.mean().item() == pytest.approx(0.0207701986, abs=1e-10)
    assert features.abs().mean().item() == pytest.approx(0.8626841802, abs=1e-10)
    assert reconstruction.mean().item() == pytest.approx(0.0001543059, abs=1e-10)
    assert reconstruction.abs().mean().item() == pytest.approx(3.5066715305, abs=1e-10)
    first = reconstruction.flatten()[:2].tolist()
    assert first == pytest.approx([3.50996684, -5.23800606], abs=1e-8)


PUBLISHED_NAMES = (
    (r'^patch_embed\.proj', 'patch_embed.projection'),
    (r'^blocks\.(\d+)\.norm', r'layers.\1.ln'),
    (r'^blocks\.', 'layers.'),
    (r'^(layers.*)mlp\.fc1', r'\1ffn.layers.0.0'),
    (r'^(layers.*)mlp\.fc2', r'\1ffn.layers.1'),
    (r'^stem\.', 'downsample_layers.0.'),
    (r'^stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
    (r'\.blocks\.', '.'),
    (r'conv_dw', 'depthwise_conv'),
    (r'mlp\.fc', 'pointwise_conv'),
    (r'^head\.norm', 'norm3'),
)


def published_name(key: str) -> str:
    """What the published ViT or ConvNeXt calls the parameter that timm calls ``key``."""
    for own, published in PUBLISHED_NAMES:
        key = re.sub(own, published, key)
    return key
