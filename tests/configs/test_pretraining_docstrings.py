"""Pre-training recipes say which number to expect, and where they leave the published file.

Sources of the numbers: tests/data/README.md, "Recipes".
"""

import ast
import re

import pytest

from recipes import PRETRAIN, pretraining_recipes

RSB_A2 = 'rsb_a2_ft_sz224_8xb256_cos_fp16_ep300'
RSB_A3 = 'rsb_a3_ft_sz160_8xb256_cos_fp16_ep100'
R50_A3 = 'r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100'
SPARK = 'spark_ft_sz224_8xb256_cos_fp16_ep300'
VIT_SMALL = 'vit_small_p16_swin_ft_simmim_sz224_8xb128_cos'
VIT_BASE = 'vit_base_p16_swin_ft_simmim_sz224_4xb128_accu2_cos_ep100'
VIT_LARGE = 'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos'

# Recipe -> top-1 after a fine-tuning recipe, as the published read-mes have it.
EXPECTED = {
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100': {R50_A3: 78.8},
    'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300': {f'r50_{RSB_A2}': 80.4, R50_A3: 78.9},
    'a2mim/imagenet/r101_l3_sz224_init_8xb256_cos_ep300': {
        f'r101_{RSB_A2}': 81.9,
        f'r101_{RSB_A3}': 80.3,
    },
    'a2mim/imagenet/r152_l3_sz224_init_8xb256_cos_ep300': {
        f'r152_{RSB_A2}': 82.5,
        f'r152_{RSB_A3}': 80.9,
    },
    'a2mim/imagenet/r200_l3_sz224_init_8xb256_cos_ep300': {f'r200_{RSB_A2}': 83.0},
    'a2mim/imagenet/convnext_s_l3_sz224_init_8xb256_cos_ep300': {f'convnext_s_{SPARK}': 83.7},
    'a2mim/imagenet/convnext_b_l3_sz224_init_8xb256_cos_ep300': {f'convnext_b_{SPARK}': 84.1},
    'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800': {f'{VIT_SMALL}_ep200': 82.1},
    'a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800': {VIT_BASE: 84.2},
    'a2mim/imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800': {
        f'{VIT_LARGE}_ep150': 86.1,
        f'{VIT_LARGE}_ep100': 86.0,
    },
    'a2mim/imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800': {
        'deit_small_p16_swin_ft_sz224_4xb256_cos_ep100': 87.24
    },
    'a2mim/imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800': {
        'r50_swin_ft_sz224_4xb256_accu2_cos_ep100': 89.32
    },
    'simmim/imagenet/r50_sz224_8xb256_fp16_ep300': {f'r50_{RSB_A2}': 79.9},
    'simmim/imagenet/r101_sz224_8xb256_fp16_ep300': {f'r101_{RSB_A2}': 81.3},
    'simmim/imagenet/r152_sz224_8xb256_fp16_ep300': {f'r152_{RSB_A2}': 81.9},
    'simmim/imagenet/r200_sz224_8xb256_fp16_ep300': {f'r200_{RSB_A2}': 82.2},
    'simmim/imagenet/convnext_small_sz224_8xb256_fp16_ep300': {f'convnext_s_{SPARK}': 83.2},
    'simmim/imagenet/convnext_base_sz224_8xb256_fp16_ep300': {f'convnext_b_{SPARK}': 83.6},
    'simmim/imagenet/vit_small_sz224_8xb256_step_fp16_ep800': {f'{VIT_SMALL}_ep100': 81.7},
    'simmim/imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800': {VIT_BASE: 83.8},
    'simmim/imagenet/vit_large_sz224_8xb128_accu2_step_fp16_ep800': {f'{VIT_LARGE}_ep100': 85.6},
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep100': {
        'swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100': 82.9,
        'swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100': 83.5,
    },
    'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep800': {
        'swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100': 84.0
    },
}
# Published files that do not load, or do something else than their names say: words of the reason.
DEVIATIONS = {
    'a2mim/imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800': ['does not load'],
    'a2mim/imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800': ['does not load'],
    'a2mim/cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000': ['64 images per GPU'],
    'simmim/imagenet/convnext_tiny_sz224_8xb256_fp16_ep300': ['nothing is masked'],
    'simmim/imagenet/convnext_small_sz224_8xb256_fp16_ep300': ['nothing is masked'],
    'simmim/imagenet/convnext_base_sz224_8xb256_fp16_ep300': ['nothing is masked', '4096 images'],
    'simmim/imagenet/vit_base_sz224_8xb128_accu2_step_fp16_ep800': ['float32'],
    'simmim/imagenet/vit_base_rgb_m_sz224_8xb128_accu2_step_fp16_ep800': ['target', 'float32'],
    'simmim/cifar10/swin_base_sz192_8xb64_accu4_cos_ep1000': ['100 epochs'],
    'simmim/cifar100/swin_base_sz192_8xb64_accu4_cos_ep1000': ['does not load', '100 epochs'],
}
every_recipe = pytest.mark.parametrize('name', sorted(pretraining_recipes()))
STARTERS = r'Expect |Deviation: |Published as: |Run: '


def paragraphs(name: str) -> list[str]:
    """Of the docstring, each in one line."""
    docstring = ast.get_docstring(ast.parse((PRETRAIN / f'{name}.py').read_text('utf-8')))
    pieces = re.split(rf'\n\n+|\n(?={STARTERS})', docstring)
    return [' '.join(piece.split()) for piece in pieces]


def test_every_number_belongs_to_a_recipe():
    assert pretraining_recipes() >= EXPECTED.keys() | DEVIATIONS.keys()


@every_recipe
def test_it_expects_the_published_numbers(name):
    found = {}
    for paragraph in paragraphs(name):
        if paragraph.startswith('Expect '):
            pattern = r'Expect ([\d.]+) top-1 after (\w+) \(published read-me[\w ,]*\)\.( .*)?'
            number, stem, _ = re.fullmatch(pattern, paragraph).groups()
            found[stem] = float(number)
    assert found == EXPECTED.get(name, {})


@every_recipe
def test_it_states_where_it_leaves_the_published_file(name):
    found = [text for text in paragraphs(name) if text.startswith('Deviation: ')]
    reasons = DEVIATIONS.get(name, [])
    assert len(found) == len(reasons)
    assert all(reason in text for reason, text in zip(reasons, found, strict=True))
