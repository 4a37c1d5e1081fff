"""The shipped fine-tuning recipe is the published one, number for number.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import math

import pytest
import torch
from mmengine import Config
from torch import nn

from recipes import CONFIGS, built, group_sizes, rates

FINETUNE = Config.fromfile(
    CONFIGS / 'finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100.py'
)
IMAGENET = 1_281_167  # training images


def test_the_fine_tuned_resnet_has_the_published_size():
    assert sum(p.numel() for p in built(FINETUNE.model).parameters()) == 25_557_032


def test_groups_have_the_published_sizes():
    assert group_sizes(FINETUNE) == {(8e-3, 0.02): 58, (8e-3, 0.0): 103}


def test_learning_rates_are_the_published_ones():
    found = rates(FINETUNE, 626, [0, 62599])
    assert found == pytest.approx([8e-8, 2.973512e-6], rel=3e-6)


def test_epochs_have_the_published_length():
    assert FINETUNE.train_dataloader.batch_size == 512
    assert math.ceil(IMAGENET / (4 * 512)) == 626


def test_it_trains_in_mixed_precision():
    assert FINETUNE.optim_wrapper.type == 'AmpOptimWrapper'


def test_the_fine_tuning_loss_is_summed_over_classes_and_not_thresholded():
    loss = built(FINETUNE.model).classifier_loss
    logits, target = torch.randn(4, 1000), torch.rand(4, 1000)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction='sum') / 4
    torch.testing.assert_close(loss(logits, target), expected)
