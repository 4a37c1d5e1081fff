"""Pre-training recipes: trunk, mask token, decoder and losses are the published ones.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

from typing import NamedTuple

import pytest
from mmengine import Config
from timm.layers import DropPath

from recipes import PRETRAIN, built, pretraining, pretraining_recipes

GAMMA = 1e-6


class Row(NamedTuple):
    """One recipe.

    ``token`` is where the mask token goes in, ``stride`` and ``width`` those of the features there;
    ``mode`` is 'add' or 'replace', ``gamma`` the start of the factor on hidden features.
    """

    trunk: str
    token: str
    stride: int
    width: int
    mode: str
    gamma: float | None
    loss: str


def resnet(depth: int, loss: str) -> Row:
    return Row(f'resnet{depth}', 'layer3', 16, 1024, 'add', GAMMA, loss)


def convnext(size: str, width: int) -> Row:
    return Row(f'convnext_{size}', 'stages.3.downsample', 32, width, 'add', GAMMA, 'focal L1')


def vit(size: str, width: int, loss: str = 'L1, focal frequency 0.1') -> Row:
    return Row(f'vit_{size}', 'patch_embed', 16, width, 'add', None, loss)


def simmim(trunk: str, token: str, stride: int, width: int) -> Row:
    return Row(trunk, token, stride, width, 'replace', None, 'L1')


R50_LOSS = 'focal L1, focal frequency 0.5'
ROWS = {
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100': resnet(50, R50_LOSS),
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300': resnet(50, R50_LOSS),
    'a2mim/imagenet/r50_l3_sz224_init_1xb256_accu8_cos_ep300': resnet(50, R50_LOSS),
    'a2mim/imagenet/r50_l3_sz224_8xb256_cos_ep100': Row(
        'resnet50', 'layer3', 16, 1024, 'add', None, R50_LOSS
    ),
    'a2mim/imagenet/r50_l0_sz224_8xb256_cos_ep100': Row(
        'resnet50', 'maxpool', 4, 64, 'add', None, R50_LOSS
    ),
    'a2mim/imagenet/r101_l3_sz224_init_8xb256_cos_ep300': resnet(
        101, 'focal L1, focal L1 of the spectrum 0.1'
    ),
    'a2mim/imagenet/r152_l3_sz224_init_8xb256_cos_ep300': resnet(152, 'focal L1'),
    'a2mim/imagenet/r200_l3_sz224_init_8xb256_cos_ep300': resnet(200, 'focal L1'),
    'a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300': convnext('tiny', 768),
    'a2mim/imagenet/convnext_t_l3_sz224_init_1xb256_accu8_cos_ep300': convnext('tiny', 768),
    'a2mim/imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300': convnext('small', 768),
    'a2mim/imagenet/convnext_b_l3_sz224_init_8xb256_cos_ep300': convnext('base', 1024),
    'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800': vit('small', 768),
    'a2mim/imagenet/vit_small_l0_sz224_1xb256_accu8_step_ep800': vit('small', 768),
    'a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800': vit('base', 768),
    'a2mim/imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800': vit('large', 1024),
    # The token before the eighth block is behind the seventh, which is number 6.
    'a2mim/imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800': Row(
        'deit_small', 'blocks.6', 16, 384, 'add', None, 'L1, focal frequency 0.1'
    ),
    'a2mim/imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800': Row(
        'deit_small', 'patch_embed', 16, 384, 'add', None, 'L1, focal frequency 0.1'
    ),
    'a2mim/imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800': resnet(50, R50_LOSS),
    'a2mim/cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000': resnet(50, R50_LOSS),
    'a2mim/cifar100/vit_small_l0_sz224_4xb256_accu2_cos_ep1000': vit('small', 768, 'L1'),
    **{
        f'simmim/imagenet/r{depth}_sz224_8xb256_fp16_ep300': simmim(
            f'resnet{depth}', 'maxpool', 4, 64
        )
        for depth in (50, 101, 152, 200)
    },
    # Published as an added token, which hides nothing in an untouched image.
    **{
        f'simmim/imagenet/convnext_{size}_sz224_8xb256_fp16_ep300': simmim(
            f'convnext_{size}', 'stem', 4, width
        )
        for size, width in (('tiny', 96), ('small', 96), ('base', 128))
    },
    'simmim/imagenet/vit_small_sz224_8xb256_step_fp16_ep800': simmim(
        'vit_small', 'patch_embed', 16, 768
    ),
    'simmim/imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800': simmim(
        'vit_base', 'patch_embed', 16, 768
    ),
    'simmim/imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800': simmim(
        'vit_base', 'patch_embed', 16, 768
    ),
    'simmim/imagenet/vit_large_sz224_8xb128_accu2_step_fp16_ep800': simmim(
        'vit_large', 'patch_embed', 16, 1024
    ),
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep100': simmim(
        'swin_base', 'patch_embed', 4, 128
    ),
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep800': simmim(
        'swin_base', 'patch_embed', 4, 128
    ),
    'simmim/imagenet100/r50_sz192_8xb128_accu2_cos_ep800': simmim('resnet50', 'maxpool', 4, 64),
    'simmim/imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800': simmim(
        'swin_tiny', 'patch_embed', 4, 96
    ),
    'simmim/cifar10/swin_base_sz192_8xb64_accu4_cos_ep1000': simmim(
        'swin_base', 'patch_embed', 4, 128
    ),
    'simmim/cifar100/swin_base_sz192_8xb64_accu4_cos_ep1000': simmim(
        'swin_base', 'patch_embed', 4, 128
    ),
}
# Trunk: parameters without the mask token, width of its output, stride of its output, drop path.
# Most as published. Swin: the 28,288,354 and 87,768,224 of its authors, less the classifier, with
# position tables for windows of 6 instead of 7.
TRUNKS = {
    'resnet50': (23_508_032, 2048, 32, 0.0),
    'resnet101': (42_500_160, 2048, 32, 0.0),
    'resnet152': (58_143_808, 2048, 32, 0.0),
    'resnet200': (62_624_832, 2048, 32, 0.0),
    'convnext_tiny': (27_820_128, 768, 32, 0.0),
    'convnext_small': (49_454_688, 768, 32, 0.0),
    'convnext_base': (87_566_464, 1024, 32, 0.0),
    'vit_small': (48_056_832, 768, 16, 0.1),
    'vit_base': (85_913_280, 768, 16, 0.1),
    'vit_large': (303_607_296, 1024, 16, 0.1),
    'deit_small': (21_688_608, 384, 16, 0.1),
    'swin_tiny': (27_512_730, 768, 32, 0.0),
    'swin_base': (86_725_176, 1024, 32, 0.0),
}
every_recipe = pytest.mark.parametrize('name, row', ROWS.items(), ids=list(ROWS))


def test_every_recipe_is_in_the_table():
    assert set(ROWS) == pretraining_recipes()


@every_recipe
def test_the_trunk_is_the_published_one(name, row):
    backbone = built(pretraining(name).model).backbone
    size = sum(parameter.numel() for parameter in backbone.model.parameters())
    drops = (m.drop_prob for m in backbone.model.modules() if isinstance(m, DropPath))
    drop_path = pytest.approx(max(drops, default=0.0))
    assert (size, backbone.out_channels, backbone.stride, drop_path) == TRUNKS[row.trunk]


@every_recipe
def test_the_token_is_the_published_one(name, row):
    backbone = built(pretraining(name).model).backbone
    token = backbone.mask_token
    assert backbone.mask_after == row.token
    assert backbone.mask_stride == row.stride
    assert tuple(token.token.shape) == (row.width,)
    assert token.mode == row.mode
    assert (token.gamma is None) == (row.gamma is None)
    options = pretraining(name).model.backbone.mask_token
    assert options.get('gamma_init') == row.gamma
    # Published tokens of ConvNeXt start at 0.
    assert options.get('init', 'trunc_normal') == (
        'zero' if 'convnext' in row.trunk else 'trunc_normal'
    )
    assert token.token.requires_grad


@every_recipe
def test_the_decoder_is_one_convolution_onto_pixels(name, row):
    neck = built(pretraining(name).model).neck
    _, width, stride, _ = TRUNKS[row.trunk]
    assert tuple(neck.projection.weight.shape) == (3 * stride**2, width, 1, 1)
    before = [tuple(parameter.shape) for parameter in neck.block.parameters()]
    # Only the ablation has more: a depth-wise convolution of 5 × 5 and a norm.
    assert before == ([(384, 1, 5, 5), (384,), (384,)] if '_mlp_' in name else [])


@every_recipe
def test_the_losses_are_the_published_ones(name, row):
    head = built(pretraining(name).model).head
    spatial, _, spectral = row.loss.partition(', ')
    criteria = {'L1': dict(type='L1Loss'), 'focal L1': dict(type='FocalL1Loss', alpha=0.2, gamma=1)}
    assert pretraining(name).model.head.spatial == criteria[spatial]
    assert head.visible_weight == 0
    if not spectral:
        assert head.spectral is None
        return
    kind, weight = spectral.rsplit(' ', 1)
    assert (
        pretraining(name).model.head.spectral
        == {
            'focal frequency': dict(type='FocalFrequencyLoss', loss_weight=float(weight)),
            'focal L1 of the spectrum': dict(
                type='SpectrumLoss', criterion=criteria['focal L1'], loss_weight=float(weight)
            ),
        }[kind]
    )
    assert head.visible_fill == 'mixed'
    assert head.visible_leak == (1e-3 if 'resnet' in row.trunk else 0)


@every_recipe
def test_a2mim_fills_hidden_blocks_and_simmim_does_not(name, row):
    fill = built(pretraining(name).model).fill
    assert fill == ('mean' if name.startswith('a2mim') or '_rgb_m_' in name else None)


@every_recipe
def test_batch_norm_looks_at_the_global_batch(name, row):
    assert pretraining(name).get('sync_bn') == ('torch' if 'resnet' in row.trunk else None)


@pytest.mark.parametrize(
    'base, trunk, decoder',
    [
        ('r50', 23_510_080, 6_294_528),
        ('r101', 42_502_208, 6_294_528),
        ('r152', 58_145_856, 6_294_528),
        ('r200', 62_626_880, 6_294_528),
        ('convnext_t', 27_821_664, 2_362_368),
        ('convnext_s', 49_456_224, 2_362_368),
        ('convnext_b', 87_568_512, 3_148_800),
        ('vit_small', 48_057_600, 590_592),
        ('vit_base', 85_914_048, 590_592),
        ('vit_large', 303_608_320, 787_200),
        ('deit_small', 21_688_992, 295_680),
    ],
)
def test_models_have_the_published_size(base, trunk, decoder):
    model = built(Config.fromfile(PRETRAIN / f'_base_/models/a2mim/{base}.py').model)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.backbone, model.neck)]
    assert sizes == [trunk, decoder]
