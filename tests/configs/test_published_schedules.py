"""The learning rates of published recipes follow the published curves.

Sources of the numbers: tests/data/README.md, "Recipes" and "Schedules".
"""

import math
from bisect import bisect_right

import pytest
from mmengine import Config

from a2mim.datasets import RepeatedEpochSampler
from recipe_facts import goldens
from recipes import PRETRAINING, PUBLISHED, rates, read

GOLDENS = goldens()
EPOCH = 626  # iterations of 2048 images of ImageNet-1K; the curves are the same in epochs
END = -1  # the last iteration
IMAGES = {'imagenet': 1_281_167, 'imagenet100': 126_689, 'cifar10': 50_000, 'cifar100': 50_000}

# Rates of pre-training by epoch: start, half and end of the warm-up, then where the rate is half
# way or falls, and the end. The first cosine begins behind the warm-up, the second with it.
CURVES = {
    'cosine 1.2e-3, 100': {0: 0, 5: 5.95480307e-4, 10: 1.2e-3, 55: 6.05e-4, END: 1e-5},
    'cosine 1.2e-3, 300': {
        **{0: 0, 1: 1.19717426e-4, 5: 5.99563691e-4, 10: 1.2e-3},
        **{150: 6.37212651e-4, 155: 6.05e-4, END: 1e-5},
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
EXAMPLES = {  # a recipe with each of them
    'cosine 1.2e-3, 100': 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep100',
    'cosine 1.2e-3, 300': 'a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300',
    'cosine 1.2e-3, 800': 'a2mim/imagenet100/r50_l3_sz192_4xb256_accu2_cos_fp16_ep800',
    'cosine 1.2e-3, 1000': 'a2mim/cifar100/r50_l3_sz224_init_4xb256_accu2_cos_ep1000',
    'cosine 8e-4, 300': 'simmim/imagenet/r50_sz224_8xb256_fp16_ep300',
    'cosine 8e-4, 800': 'a2mim/imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800',
    'overlap 8e-4, 100': 'simmim/imagenet/swin_base_sz192_8xb128_accu2_cos_ep100',
    'overlap 8e-4, 800': 'simmim/imagenet100/swin_tiny_sz192_8xb128_accu2_cos_ep800',
    'overlap 8e-4, 800, from 1e-6': 'simmim/imagenet100/r50_sz192_8xb128_accu2_cos_ep800',
    'overlap 8e-4, 1000': 'a2mim/cifar100/vit_small_l0_sz224_4xb256_accu2_cos_ep1000',
    'step 4e-4, 800': 'a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800',
}


@pytest.mark.parametrize('curve', CURVES)
def test_rates_of_pretraining_are_the_published_ones(curve):
    config, points = read(f'openmixup/pretrain/{EXAMPLES[curve]}'), CURVES[curve]
    last = config.train_cfg.max_epochs * EPOCH - 1
    iterations = [last if epoch == END else epoch * EPOCH for epoch in points]
    expected = pytest.approx(list(points.values()), rel=1e-7, abs=1e-15)
    assert rates(config, EPOCH, iterations) == expected


def test_every_recipe_of_pretraining_has_one_of_these_schedules():
    def schedule(name: str) -> dict:
        keys = ('param_scheduler.', 'optim_wrapper.optimizer.lr', 'train_cfg.')
        return {key: item for key, item in GOLDENS[name].items() if key.startswith(keys)}

    known = [schedule(f'openmixup/pretrain/{name}') for name in EXAMPLES.values()]
    for name in PRETRAINING:
        assert schedule(name) in known, name


def formula(config: Config, epoch_length: int, iteration: int) -> float:
    """The published rate in an iteration; warm-ups multiply what the rest of the schedule gives."""
    schedule, rate = config.param_scheduler, config.optim_wrapper.optimizer.lr
    warmup, total = (n * epoch_length for n in (schedule.get('warmup', 0), epochs_of(config)))
    least = schedule.get('eta_min', 0.0)
    if schedule.type == 'WarmupStepLR':
        falls = bisect_right(schedule.milestones, iteration // epoch_length)
        return rate * schedule.get('gamma', 0.1) ** falls
    if schedule.type == 'WarmupCosineLR':  # the cosine begins behind the warm-up
        progress, rise = (iteration - warmup) / (total - warmup), iteration / warmup
    else:  # they begin together
        passed = iteration // epoch_length * epoch_length if schedule.get('stairs') else iteration
        progress = passed / total
        rise = 1 - (1 - iteration / warmup) * (1 - schedule.warmup_ratio) if warmup else 1
    return (least + (rate - least) * (1 + math.cos(math.pi * progress)) / 2) * min(rise, 1)


def epochs_of(config: Config) -> int:
    return config.train_cfg.max_epochs


def test_rates_of_finetuning_follow_the_published_formulas():
    for name in set(PUBLISHED) - set(PRETRAINING):
        config, length = read(name), 10
        total, warmup = epochs_of(config), config.param_scheduler.get('warmup', 0)
        # Starts and middles of epochs, the end of the warm-up, and the epochs of steps.
        steps = [m for m in config.param_scheduler.get('milestones', []) if m < total]
        epochs = sorted({0, 1, warmup, total // 2, *steps})
        iterations = [length * epoch + add for epoch in epochs for add in (0, 3)]
        iterations += [length * epoch - 1 for epoch in (*epochs[1:], total)]
        expected = [formula(config, length, iteration) for iteration in iterations]
        assert rates(config, length, iterations) == pytest.approx(expected), name


def epoch_length(name: str) -> int:
    """Iterations per epoch on the published number of GPUs."""
    config, images = read(name), IMAGES[images_of(name)]
    loader = config.train_dataloader
    gpus = images_per_iteration(config) // loader.batch_size
    if loader.sampler.type == 'RepeatedEpochSampler':
        images = len(RepeatedEpochSampler(range(images), seed=0))
        return math.ceil(images // gpus / loader.batch_size)
    return math.ceil(images / gpus / loader.batch_size)


def images_of(name: str) -> str:
    return name.split('/')[-2]


def images_per_iteration(config: Config) -> int:
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    return config.auto_scale_lr.base_batch_size // accumulated


def test_epochs_have_the_published_length():
    published = {  # by images and images per iteration
        ('imagenet', 2048): 626,
        ('imagenet', 1024): 1252,
        ('imagenet', 512): 2503,
        ('imagenet', 256): 8 * 626 - 3,  # ours: the last step of an epoch goes on in the next
        ('imagenet100', 1024): 124,
        ('cifar10', 512): 98,
        ('cifar100', 512): 98,
        ('cifar100', 1024): 49,
    }
    words = ('/pretrain/', '_rsb_a2_', '_rsb_a3_', '_simmim_', '_spark_')
    for name in PUBLISHED:
        if not any(word in name for word in words):
            continue
        config = read(name)
        expected = published[images_of(name), images_per_iteration(config)]
        if config.train_dataloader.sampler.type == 'RepeatedEpochSampler':
            expected = {626: 626, 2503: 2502}[expected]  # the published sampler rounds down
        assert epoch_length(name) == expected, name


RATES = {  # by epoch
    'r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300': {0: 5e-8, 5: 4.996574e-3, 150: 2.5005e-3},
    'r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100': {0: 8e-8, 5: 7.950759e-3, 50: 4.0005e-3},
    'vit_base_p16_swin_ft_simmim_sz224_8xb128_cos_ep100': {
        0: 0.0,
        10: 4.809718e-3,
        20: 1e-2,
        60: 5.0005e-3,
    },
    'convnext_s_spark_ft_sz224_8xb256_cos_fp16_ep300': {0: 4e-8, 5: 3.997260e-3, 150: 2.0005e-3},
    'convnext_t_spark_ft_sz224_8xb256_cos_fp16_ep400': {0: 4e-9, 200: 2.005e-4},
}


@pytest.mark.parametrize('stem, values', RATES.items(), ids=list(RATES))
def test_rates_of_some_epochs_are_these(stem, values):
    name = f'openmixup/finetune/imagenet/{stem}'
    length = epoch_length(name)
    found = rates(read(name), length, [epoch * length for epoch in values])
    assert found == pytest.approx(list(values.values()), rel=1e-6)


def test_the_lowest_layers_of_a_vit_l_end_faster_than_they_start():
    stem = 'vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100'
    name = f'openmixup/finetune/imagenet/{stem}'
    length = epoch_length(name)
    start, end = rates(read(name), length, [20 * length, 100 * length - 1], share=0.65**25)
    assert start == pytest.approx(2.103e-7, rel=2e-4)
    assert end == pytest.approx(1e-6)
