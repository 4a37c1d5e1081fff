"""Published recipes have their facts in tests/data/recipes/, and say where they deviate.

That each has these facts is in ``test_every_config.py``.
"""

import ast

from recipe_facts import FAMILIES, differences, goldens
from recipes import CONFIGS, PRETRAINING, PUBLISHED

GOLDENS = goldens()
# Published files that do not load, or do something else than their names say: words of the reason.
DEVIATIONS = {
    'a2mim/imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800': ['does not load'],
    'a2mim/imagenet100/deit_small_l8_hog_sz192_4xb256_accu2_cos_ep800': ['no published run'],
    'a2mim/imagenet100/deit_small_l8_lbp_sz192_4xb256_accu2_cos_ep800': ['no published run'],
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


def test_every_recipe_has_its_facts():
    assert GOLDENS.keys() == set(PUBLISHED)


def test_every_family_has_recipes():
    fitting = {next(part for part in FAMILIES if part in name) for name in PUBLISHED}
    assert fitting == FAMILIES.keys()


def test_a_difference_is_told_by_name_with_both_values():
    expected = {'same': 1, 'other': [1, 2], 'gone': None}
    assert differences(expected, {'same': 1, 'other': [1, 3], 'new': 0.5}) == [
        "gone: expected None, found 'nothing'",
        "new: expected 'nothing', found 0.5",
        'other: expected [1, 2], found [1, 3]',
    ]
    assert differences(expected, expected) == []


def test_pretraining_says_where_it_leaves_the_published_file():
    assert {f'openmixup/pretrain/{name}' for name in DEVIATIONS} <= set(PRETRAINING)
    for name in PRETRAINING:
        docstring = ast.get_docstring(ast.parse((CONFIGS / f'{name}.py').read_text('utf-8')))
        _, *deviations = ' '.join(docstring.split()).split('Deviation: ')
        reasons = DEVIATIONS.get(name.removeprefix('openmixup/pretrain/'), [])
        for reason, text in zip(reasons, deviations, strict=True):
            assert reason in text, name
