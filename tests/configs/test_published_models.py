"""Models of published recipes behave as published; their sizes stand in tests/data/recipes/."""

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from a2mim.registry import MODELS
from recipes import PRETRAINING, built, read

FINETUNE = 'openmixup/finetune/imagenet'


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
    for name in PRETRAINING:
        head = MODELS.build(read(name).model.head)
        wrong = torch.randn_like(target if head.target is None else head.target(target))
        elsewhere = wrong.clone()
        elsewhere[:, :, wrong.shape[2] // 2 :] += 5
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
