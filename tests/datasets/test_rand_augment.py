"""timm's RandAugment is the published one: operations, strengths, probabilities, filling.

The table is that of the published configs: name of the operation there, in timm, and the value of
its argument at level 0 and at level 10. A sign is drawn for the values marked by it.
"""

import random

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from a2mim.datasets import TimmAugment

OPERATIONS = {  # timm's name: (function, argument at level 0, at level 10, sign is drawn)
    'AutoContrast': ('auto_contrast', None, None, False),
    'Equalize': ('equalize', None, None, False),
    'Invert': ('invert', None, None, False),
    'Rotate': ('rotate', 0, 30, True),
    'PosterizeIncreasing': ('posterize', 4, 0, False),
    'SolarizeIncreasing': ('solarize', 256, 0, False),
    'SolarizeAdd': ('solarize_add', 0, 110, False),
    # One plus or minus the published magnitude: 1 leaves the image as it is.
    'ColorIncreasing': ('color', 0, 0.9, True),
    'ContrastIncreasing': ('contrast', 0, 0.9, True),
    'BrightnessIncreasing': ('brightness', 0, 0.9, True),
    'SharpnessIncreasing': ('sharpness', 0, 0.9, True),
    'ShearX': ('shear_x', 0, 0.3, True),
    'ShearY': ('shear_y', 0, 0.3, True),
    'TranslateXRel': ('translate_x_rel', 0, 0.45, True),
    'TranslateYRel': ('translate_y_rel', 0, 0.45, True),
}
POLICIES = {'rand-m6-mstd0.5-inc1': 6, 'rand-m7-mstd0.5-inc1': 7, 'rand-m9-mstd0.5-inc1': 9}
every_policy = pytest.mark.parametrize('policy, level', POLICIES.items())


@every_policy
def test_two_of_the_15_operations_are_drawn_with_replacement(policy, level):
    augment = TimmAugment(policy).augment
    assert [op.name for op in augment.ops] == list(OPERATIONS)
    assert augment.num_layers == 2
    assert augment.choice_weights is None  # equal chances, and with it replacement
    drawn = []
    for op in augment.ops:
        op.prob = 1.0
        op.aug_fn = lambda image, *_, name=op.name, **__: drawn.append(name)
        op.level_fn = None
    np.random.seed(0)
    for _ in range(3000):
        augment(None)
    pairs = np.array(drawn).reshape(-1, 2)
    assert np.mean(pairs[:, 0] == pairs[:, 1]) == pytest.approx(1 / 15, abs=0.02)
    counts = np.unique(pairs, return_counts=True)[1]
    np.testing.assert_allclose(counts / len(drawn), 1 / 15, atol=0.012)


@every_policy
def test_each_fires_with_probability_one_half_at_a_clipped_normal_level(policy, level):
    levels = []
    random.seed(0)
    for op in TimmAugment(policy).augment.ops:
        assert (op.prob, op.magnitude, op.magnitude_std) == (0.5, level, 0.5)
        op.aug_fn = lambda image, *_, **__: image
        op.level_fn = lambda magnitude, _: levels.append(magnitude) or ()
        for _ in range(500):
            op(None)
    assert len(levels) / (15 * 500) == pytest.approx(0.5, abs=0.03)
    expected = np.random.default_rng(0).normal(level, 0.5, 100_000).clip(0, 10)
    assert max(levels) <= 10
    assert np.mean(levels) == pytest.approx(expected.mean(), abs=0.03)
    assert np.std(levels) == pytest.approx(expected.std(), abs=0.03)


@pytest.mark.parametrize('name', OPERATIONS)
def test_strengths_reach_from_the_published_least_to_the_published_most(name):
    function, least, most, signed = OPERATIONS[name]
    assert NAME_TO_OP[name].__name__ == function
    if least is None:
        assert LEVEL_TO_ARG[name] is None
        return
    neutral = 1 if function in {'color', 'contrast', 'brightness', 'sharpness'} else 0
    random.seed(0)
    for level, magnitude in ((0, least), (5, (least + most) / 2), (10, most)):
        drawn = {LEVEL_TO_ARG[name](level, {})[0] - neutral for _ in range(30)}
        expected = {magnitude, -magnitude} if signed else {magnitude}
        assert sorted(drawn) == pytest.approx(sorted(expected))


@every_policy
def test_uncovered_corners_get_the_mean_colour_and_pixels_are_interpolated_bicubically(
    policy, level
):
    # Published for RSB: (104, 116, 124), the same colour with red and blue exchanged.
    for op in TimmAugment(policy).augment.ops:
        assert op.kwargs == dict(fillcolor=(124, 116, 104), resample=Image.Resampling.BICUBIC)


@pytest.mark.parametrize('level', [0, 5, 10])
def test_posterize_keeps_the_highest_bits_and_none_at_the_highest_level(level):
    augment = TimmAugment('rand-m9-mstd0.5-inc1').augment
    (posterize,) = [op for op in augment.ops if op.name == 'PosterizeIncreasing']
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    (bits,) = posterize.level_fn(level, posterize.hparams)
    found = posterize.aug_fn(Image.fromarray(pixels), bits, **posterize.kwargs)
    np.testing.assert_array_equal(np.asarray(found), pixels & (0xFF00 >> bits & 0xFF))
