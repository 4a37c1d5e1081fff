"""Models of published recipes have the published sizes, and behave as published.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from a2mim.registry import MODELS
from recipe_facts import goldens
from recipes import PRETRAINING, built, read

FINETUNE = 'openmixup/finetune/imagenet'
GOLDENS = goldens()
# Parameters of trunk and decoder; the trunks with mask token and factor on hidden features.
PRETRAINED = {
    'imagenet/r50_l3_sz224_init_8xb256_cos_ep300': (23_510_080, 6_294_528),
    'imagenet/r101_l3_sz224_init_8xb256_cos_ep300': (42_502_208, 6_294_528),
    'imagenet/r152_l3_sz224_init_8xb256_cos_ep300': (58_145_856, 6_294_528),
    'imagenet/r200_l3_sz224_init_8xb256_cos_ep300': (62_626_880, 6_294_528),
    'imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300': (27_821_664, 2_362_368),
    'imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300': (49_456_224, 2_362_368),
    'imagenet/convnext_b_l3_sz224_init_8xb256_cos_ep300': (87_568_512, 3_148_800),
    'imagenet/vit_small_l0_sz224_8xb256_step_ep800': (48_057_600, 590_592),
    'imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800': (85_914_048, 590_592),
    'imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800': (303_608_320, 787_200),
    'imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800': (21_688_992, 295_680),
}
FINETUNED = {  # in the published table, in millions: 25.6, 44.5, 60.2, 64.7, 48.8, 86.7, 304.6, …
    'r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': 25_557_032,
    'r101_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': 44_549_160,
    'r152_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100': 60_192_808,
    'r200_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': 64_673_832,
    'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep100': 48_825_832,
    'vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100': 86_682_280,
    'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100': 304_632_296,
    'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400': 28_589_128,
    'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300': 50_223_688,
    'convnext_b_spark_ft_sz224_8xb256_cos_fp16_ep300': 88_591_464,
    'vit_base_p16_swin_ft_mae_sz224_8xb128_cos_ep100': 86_567_656,
    'vit_large_p16_swin_ft_mae_sz224_8xb128_cos_ep100': 304_326_632,
    'vit_huge_p14_swin_ft_mae_sz224_8xb128_cos_ep50': 632_045_800,
    # SimMIM's without the biases of queries and values, and without absolute positions
    'vit_base_p16_swin_ft_cae_sz224_4xb128_accu2_cos_ep100': 86_682_280 - 12 * 2 * 768,
    'beit_base_p16_ft_sz224_8xb128_cos_ep100': 86_682_280 - 197 * 768,
    # trunk at 192 pixels without the mask token, more positions, tables of twelve blocks, head
    'deit_small_p16_swin_ft_sz224_4xb256_cos_ep100': (
        21_688_992 - 384 + 52 * 384 + 12 * 200 * 6 + 385_000
    ),
    'swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100': 28_288_354,
    'swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100': 87_768_224,
    'r50_swin_ft_sz224_4xb256_accu2_cos_ep100': 25_557_032,
    # trunk of pre-training, read by a linear layer
    'vit_small_p16_linear_sz224_8xb128_cos_ep90': 48_057_600 - 768 + (768 * 1000 + 1000),
}


def test_pretrained_models_have_the_published_sizes():
    for stem, expected in PRETRAINED.items():
        facts = GOLDENS[f'openmixup/pretrain/a2mim/{stem}']
        found = facts['built.parameters.backbone'], facts['built.parameters.neck']
        assert found == expected, stem


def test_finetuned_models_have_the_published_sizes():
    for stem, expected in FINETUNED.items():
        assert GOLDENS[f'{FINETUNE}/{stem}']['built.parameters.backbone'] == expected, stem


@pytest.mark.parametrize(
    'stem, rate, blocks, per_block',
    [
        ('r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300', 0.05, 16, 1),
        ('convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300', 0.4, 36, 1),
        # attention and MLP
        ('vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100', 0.1, 12, 2),
        ('vit_huge_p14_swin_ft_mae_sz224_8xb128_cos_ep50', 0.3, 32, 2),
        ('swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100', 0.1, 12, 2),
    ],
)
def test_paths_are_dropped_with_a_rate_that_rises_from_0(stem, rate, blocks, per_block):
    model = built(read(f'{FINETUNE}/{stem}').model)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    expected = torch.linspace(0, rate, blocks)[1:].repeat_interleave(per_block)  # none at rate 0
    assert rates == pytest.approx(expected.tolist())


def test_visible_pixels_carry_no_spatial_loss_in_any_recipe():
    mask, target = torch.zeros(1, 2, 2), torch.randn(1, 3, 64, 64)
    mask[0, 0, 0] = 1
    wrong = torch.randn_like(target)
    elsewhere = wrong.clone()
    elsewhere[:, :, 32:] += 5
    for name in PRETRAINING:
        head = MODELS.build(read(name).model.head)
        losses = [head.loss(pred, target, mask)['loss_spatial'] for pred in (wrong, elsewhere)]
        assert losses[0] == losses[1] > 0, name


def test_the_loss_of_rsb_is_summed_over_classes_and_its_targets_are_not_cut():
    recipe = read(f'{FINETUNE}/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100')
    loss = MODELS.build(recipe.model.loss)
    logits, target = torch.randn(4, 1000), torch.rand(4, 1000)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction='sum') / 4
    torch.testing.assert_close(loss(logits, target), expected)


def test_the_last_stage_from_scratch_sees_16_positions_of_an_image_of_32_pixels():
    trunk = built(read('openmixup/finetune/cifar10/r18_sz32_bs100_cos_ep200').model).backbone.model
    image = torch.zeros(1, 3, 32, 32, device='meta')
    assert trunk.forward_features(image).shape == (1, 512, 4, 4)
