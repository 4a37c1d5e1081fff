"""The trunks of the paper: their sizes, and weights that start like the published ones."""

import json
from pathlib import Path

import pytest
import torch

from a2mim.models.timm_backbone import TimmBackbone

DATA = Path(__file__).parents[2] / 'data' / 'backbones' / 'init_stats.json'
INIT_STATS = json.loads(DATA.read_text(encoding='utf-8'))
# No rescaling with depth, as timm does for BEiT; patch embedding as PyTorch makes it.
VIT_INIT = dict(type='TruncNormal', layer='Linear', std=0.02, a=-0.1, b=0.1, bias=0.0)
CNN_TOKEN = dict(gamma_init=1e-6)


def vit(embed_dim: int, depth: int, num_heads: int, mlp_ratio: float) -> dict:
    return dict(
        model_name='beit_base_patch16_224',
        mask_after='patch_embed',
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        use_abs_pos_emb=True,
        use_rel_pos_bias=True,
        init_values=0.1,
        init_cfg=VIT_INIT,
    )


def cnn(model_name: str, mask_after: str) -> dict:
    return dict(model_name=model_name, mask_after=mask_after, mask_token=CNN_TOKEN)


# config, parameters of the published trunk with its token, width and stride of the output
PRESETS = {
    'resnet50': (cnn('resnet50', 'layer3'), 23_510_080, 2048, 32),
    'resnet101': (cnn('resnet101', 'layer3'), 42_502_208, 2048, 32),
    'resnet152': (cnn('resnet152', 'layer3'), 58_145_856, 2048, 32),
    'resnet200': (cnn('resnet200', 'layer3'), 62_626_880, 2048, 32),
    'convnext_tiny': (cnn('convnext_tiny', 'stages.3.downsample'), 27_821_664, 768, 32),
    'convnext_small': (cnn('convnext_small', 'stages.3.downsample'), 49_456_224, 768, 32),
    'convnext_base': (cnn('convnext_base', 'stages.3.downsample'), 87_568_512, 1024, 32),
    'vit_small': (vit(768, 8, 8, 3), 48_057_600, 768, 16),
    'vit_base': (vit(768, 12, 12, 4), 85_914_048, 768, 16),
    'vit_large': (vit(1024, 24, 16, 4), 303_608_320, 1024, 16),
}


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_has_the_published_size(preset):
    config, num_parameters, out_channels, stride = PRESETS[preset]
    with torch.device('meta'):
        backbone = TimmBackbone(**config)
    assert sum(p.numel() for p in backbone.parameters()) == num_parameters
    assert (backbone.out_channels, backbone.stride) == (out_channels, stride)


@pytest.mark.parametrize(
    'preset, published',
    [
        ('resnet50', 'r50_l3_sz224_init_8xb256_cos_ep100'),
        ('vit_small', 'vit_small_l0_sz224_8xb256_step_ep800'),
    ],
)
def test_weights_start_like_the_published_ones(preset, published, our_names):
    stats = {
        name.removeprefix('backbone.'): value
        for name, value in INIT_STATS[published].items()
        if name.startswith('backbone.')
    }
    backbone = TimmBackbone(**PRESETS[preset][0])
    backbone.init_weights()
    own = our_names(stats)
    assert set(own.values()) == {name for name, _ in backbone.named_parameters()}
    for name, (mean, std) in stats.items():
        weight = backbone.get_parameter(own[name]).detach()
        # Sampling error of two draws, and 2 % for the published outliers of ±2.
        error = 6 * std / weight.numel() ** 0.5
        assert weight.mean().item() == pytest.approx(mean, abs=error + 1e-7), name
        assert weight.std(correction=0).item() == pytest.approx(std, abs=error + 0.02 * std + 1e-7)
        # The published cut at ±2 let single weights of exactly 2 through.
        assert weight.abs().max() <= 1


def test_init_weights_leaves_weights_that_timm_made_alone():
    backbone = TimmBackbone('resnet18')
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.init_weights()
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
