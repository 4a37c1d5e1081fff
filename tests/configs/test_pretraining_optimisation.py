"""Pre-training recipes: parameter groups, learning rates and precision are the published ones.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from a2mim.weights.names import to_a2mim
from recipes import group_sizes, groups_of, pretraining, pretraining_recipes, rates

EPOCH = 626  # iterations of 2048 images of ImageNet-1K; the curves are the same in epochs
END = -1  # the last iteration

# Epoch -> learning rate: start, half and end of the warm-up, then where the rate is half way or
# falls, and the end. The first cosine begins behind the warm-up, the second with it.
CURVES = {
    'cosine 1.2e-3, 100': {0: 0, 5: 5.95480307e-4, 10: 1.2e-3, 55: 6.05e-4, END: 1e-5},
    'cosine 1.2e-3, 300': {
        0: 0,
        1: 1.19717426e-4,
        5: 5.99563691e-4,
        10: 1.2e-3,
        150: 6.37212651e-4,
        155: 6.05e-4,
        END: 1e-5,
    },
    'cosine 1.2e-3, 800': {0: 0, 5: 5.99941193e-4, 10: 1.2e-3, 405: 6.05e-4, END: 1e-5},
    'cosine 1.2e-3, 1000': {0: 0, 5: 5.99962553e-4, 10: 1.2e-3, 505: 6.05e-4, END: 1e-5},
    'cosine 8e-4, 300': {0: 0, 5: 3.99710349e-4, 10: 8e-4, 155: 4.05e-4, END: 1e-5},
    'cosine 8e-4, 800': {0: 0, 5: 3.9996096e-4, 10: 8e-4, 405: 4.05e-4, END: 1e-5},
    'overlap 8e-4, 100': {0: 3.2e-9, 5: 3.97662375e-4, 10: 7.81401476e-4, 50: 4.2e-4, END: 4e-5},
    'overlap 8e-4, 800': {0: 3.2e-9, 5: 3.99964976e-4, 10: 7.99707034e-4, 400: 4.2e-4, END: 4e-5},
    'overlap 8e-4, 800, from 1e-6': {0: 8e-10, 10: 7.99707034e-4, 400: 4.2e-4, END: 4e-5},
    'overlap 8e-4, 1000': {0: 3.2e-9, 5: 3.9997816e-4, 10: 7.99812493e-4, 500: 4.2e-4, END: 4e-5},
    'step 4e-4, 800': {0: 8e-10, 5: 2.000004e-4, 10: 4e-4, 699: 4e-4, 700: 4e-5, END: 4e-5},
}


class Row(NamedTuple):
    """One recipe.

    ``slow``, ``decaying`` and ``free`` count tensors: those at a tenth of the rate without weight
    decay, those with a decay of .05, those without.
    """

    curve: str
    slow: int
    decaying: int
    free: int
    clip: float | None
    amp: bool


# ResNets: 3 n + 10 decaying and 6 n + 7 free tensors in n blocks. ConvNeXt: 4 n + 10 and 5 n + 10.
# ViT: 4 n + 2 and 12 n + 7. Swin: 4 n + 5 and 9 n + 13. The token is free, or slow in A2MIM's
# convolutional trunks; gamma is slow or decays.
COS_300 = 'cosine 1.2e-3, 300'
ROWS = {
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100': Row(
        'cosine 1.2e-3, 100', 2, 58, 103, None, False
    ),
    'a2mim/imagenet/r50_l3_sz224_8xb256_cos_ep100': Row(
        'cosine 1.2e-3, 100', 1, 58, 103, None, False
    ),
    'a2mim/imagenet/r50_l0_sz224_8xb256_cos_ep100': Row(
        'cosine 1.2e-3, 100', 1, 58, 103, None, False
    ),
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300': Row(COS_300, 1, 59, 103, None, False),
    'a2mim/imagenet/r50_l3_sz224_init_1xb256_accu8_cos_ep300': Row(
        COS_300, 1, 59, 103, None, False
    ),
    'a2mim/imagenet/r101_l3_sz224_init_8xb256_cos_ep300': Row(COS_300, 1, 110, 205, None, False),
    'a2mim/imagenet/r152_l3_sz224_init_8xb256_cos_ep300': Row(COS_300, 1, 161, 307, None, False),
    'a2mim/imagenet/r200_l3_sz224_init_8xb256_cos_ep300': Row(COS_300, 1, 209, 403, None, False),
    'a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300': Row(
        COS_300, 2, 82, 100, None, True
    ),
    'a2mim/imagenet/convnext_t_l3_sz224_init_1xb256_accu8_cos_ep300': Row(
        COS_300, 2, 82, 100, None, True
    ),
    'a2mim/imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300': Row(
        COS_300, 2, 154, 190, None, True
    ),
    'a2mim/imagenet/convnext_b_l3_sz224_init_8xb256_cos_ep300': Row(
        COS_300, 2, 154, 190, None, True
    ),
    'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800': Row(
        'step 4e-4, 800', 0, 34, 103, 5.0, False
    ),
    'a2mim/imagenet/vit_small_l0_sz224_1xb256_accu8_step_ep800': Row(
        'step 4e-4, 800', 0, 34, 103, 5.0, False
    ),
    'a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800': Row(
        'step 4e-4, 800', 0, 50, 151, 5.0, False
    ),
    'a2mim/imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800': Row(
        'step 4e-4, 800', 0, 98, 295, 5.0, False
    ),
    'a2mim/imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800': Row(
        'cosine 8e-4, 800', 0, 50, 151, 5.0, False
    ),
    'a2mim/imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800': Row(
        'cosine 8e-4, 800', 0, 51, 153, 5.0, False
    ),
    'a2mim/imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800': Row(
        'cosine 1.2e-3, 800', 2, 58, 103, None, True
    ),
    'a2mim/cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000': Row(
        'cosine 1.2e-3, 1000', 1, 59, 103, None, True
    ),
    'a2mim/cifar100/vit_small_l0_sz224_4xb256_accu2_cos_ep1000': Row(
        'overlap 8e-4, 1000', 0, 34, 103, 5.0, True
    ),
    'simmim/imagenet/r50_sz224_8xb256_fp16_ep300': Row('cosine 8e-4, 300', 0, 58, 104, None, True),
    'simmim/imagenet/r101_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 109, 206, None, True
    ),
    'simmim/imagenet/r152_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 160, 308, None, True
    ),
    'simmim/imagenet/r200_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 208, 404, None, True
    ),
    'simmim/imagenet/convnext_tiny_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 82, 101, None, True
    ),
    'simmim/imagenet/convnext_small_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 154, 191, None, True
    ),
    'simmim/imagenet/convnext_base_sz224_8xb256_fp16_ep300': Row(
        'cosine 8e-4, 300', 0, 154, 191, None, True
    ),
    'simmim/imagenet/vit_small_sz224_8xb256_step_fp16_ep800': Row(
        'step 4e-4, 800', 0, 34, 103, 5.0, True
    ),
    # Published in float32 against their names.
    'simmim/imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'step 4e-4, 800', 0, 50, 151, 5.0, True
    ),
    'simmim/imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'step 4e-4, 800', 0, 50, 151, 5.0, True
    ),
    'simmim/imagenet/vit_large_sz224_8xb128_accu2_step_fp16_ep800': Row(
        'step 4e-4, 800', 0, 98, 295, 5.0, True
    ),
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep100': Row(
        'overlap 8e-4, 100', 0, 101, 229, 5.0, False
    ),
    # The published file steps, whatever its name says.
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep800': Row(
        'step 4e-4, 800', 0, 101, 229, 5.0, False
    ),
    'simmim/imagenet100/r50_sz192_8xb128_accu2_cos_ep800': Row(
        'overlap 8e-4, 800, from 1e-6', 0, 58, 104, 5.0, False
    ),
    'simmim/imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800': Row(
        'overlap 8e-4, 800', 0, 53, 121, 5.0, False
    ),
    # Published with 100 epochs against their names.
    'simmim/cifar10/swin_base_sz192_8xb64_accu4_cos_ep1000': Row(
        'overlap 8e-4, 1000', 0, 101, 229, 5.0, True
    ),
    'simmim/cifar100/swin_base_sz192_8xb64_accu4_cos_ep1000': Row(
        'overlap 8e-4, 1000', 0, 101, 229, 5.0, True
    ),
}
every_recipe = pytest.mark.parametrize('name, row', ROWS.items(), ids=list(ROWS))


def test_every_recipe_is_in_the_table():
    assert set(ROWS) == pretraining_recipes()


@every_recipe
def test_groups_have_the_published_sizes(name, row):
    lr = float(row.curve.split()[1].rstrip(','))
    expected = {(lr / 10, 0.0): row.slow, (lr, 0.05): row.decaying, (lr, 0.0): row.free}
    assert group_sizes(pretraining(name)) == {
        (round(rate, 12), decay): count for (rate, decay), count in expected.items() if count
    }


@every_recipe
def test_adamw_has_its_published_options(name, row):
    optimizer = pretraining(name).optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)


@every_recipe
def test_learning_rates_are_the_published_ones(name, row):
    config, curve = pretraining(name), CURVES[row.curve]
    last = config.train_cfg.max_epochs * EPOCH - 1
    iterations = [last if epoch == END else epoch * EPOCH for epoch in curve]
    assert rates(config, EPOCH, iterations) == pytest.approx(
        list(curve.values()), rel=1e-7, abs=1e-15
    )


@every_recipe
def test_it_ends_after_the_published_epochs(name, row):
    assert pretraining(name).train_cfg == dict(
        by_epoch=True, max_epochs=int(row.curve.split(', ')[1])
    )


@every_recipe
def test_gradients_are_clipped_where_published(name, row):
    clip = pretraining(name).optim_wrapper.get('clip_grad')
    assert clip == (dict(max_norm=row.clip) if row.clip else None)


@every_recipe
def test_mixed_precision_is_where_it_was_published(name, row):
    expected = 'AmpOptimWrapper' if row.amp else 'OptimWrapper'
    assert pretraining(name).optim_wrapper.type == expected


@pytest.mark.parametrize(
    'published, name',
    [
        ('r50', 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100'),
        ('convnext_t', 'a2mim/imagenet/convnext_t_l3_sz224_init_8xb256_cos_ep300'),
        ('vit_small', 'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800'),
    ],
)
def test_every_parameter_has_its_published_rate_and_decay(published, name):
    groups = json.loads(
        (Path(__file__).parents[1] / 'data/optim/published_groups.json').read_text()
    )[published]
    options = {
        key: torch.tensor([group['lr'], group['weight_decay']], dtype=torch.double)
        for group in groups
        for key in group['params']
    }
    expected = {key: pair.tolist() for key, pair in to_a2mim(options).items()}
    ours = {
        key: pytest.approx([group['lr'], group['weight_decay']])
        for group in groups_of(pretraining(name))
        for key, _ in group['params']
    }
    assert expected == ours
