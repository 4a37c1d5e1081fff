"""The global batch of a config is kept or the learning rate is scaled, never neither."""

from types import SimpleNamespace

import pytest
from mmengine import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from a2mim.engine.config_edit import BatchPlan, apply_batch_rule, check_epoch_length, compare_plans


def config(batch: int, base: int = 2048, accumulation: int = 1, scale: bool = False) -> Config:
    return Config(
        dict(
            train_dataloader=dict(batch_size=batch),
            optim_wrapper=dict(
                accumulative_counts=accumulation, optimizer=dict(type='AdamW', lr=8e-3)
            ),
            auto_scale_lr=dict(base_batch_size=base, enable=scale),
        )
    )


def chosen(cfg: Config) -> tuple[int, int, float]:
    wrapper = cfg.optim_wrapper
    return cfg.train_dataloader.batch_size, wrapper.accumulative_counts, wrapper.optimizer.lr


@pytest.mark.parametrize(
    'batch, accumulation, processes, expected',
    [
        (256, 1, 8, (256, 1)),  # as published
        (512, 1, 4, (512, 1)),
        (512, 1, 8, (256, 1)),  # the published 4 × 512 recipe in the script for 8
        (128, 2, 8, (128, 2)),
        (128, 2, 16, (128, 1)),  # more processes instead of accumulation
        (256, 1, 2, (256, 4)),  # fewer processes: accumulate
        (4, 1, 1, (4, 512)),
        (128, 2, 32, (64, 1)),
    ],
)
def test_the_global_batch_is_kept(batch, accumulation, processes, expected):
    cfg = config(batch, accumulation=accumulation)
    note = apply_batch_rule(cfg, processes)
    assert chosen(cfg) == (*expected, 8e-3)
    terms = f'{processes} × {expected[0]} × {expected[1]}'
    assert note == (
        f'global batch 2048 = {terms} (processes × batch × accumulation); '
        'learning rate as configured, 0.008'
    )


@pytest.mark.parametrize(
    'batch, processes, remedy',
    [
        (48, 1, 'train_dataloader.batch_size=32'),
        (256, 3, 'another number of processes'),
        (1024, 3, 'another number of processes'),
    ],
)
def test_a_batch_that_cannot_be_reached_is_refused_with_both_remedies(batch, processes, remedy):
    with pytest.raises(ValueError, match=f'2048 images.*{remedy}.*--auto-scale-lr'):
        apply_batch_rule(config(batch), processes)


def test_scaling_changes_the_learning_rate_and_nothing_else():
    cfg = config(48, accumulation=2, scale=True)
    note = apply_batch_rule(cfg, 3)
    assert chosen(cfg) == (48, 2, pytest.approx(8e-3 * 288 / 2048))
    assert 'global batch 288 = 3 × 48 × 2' in note
    assert 'from 0.008, which holds for 2048, to 0.001125' in note


@pytest.mark.parametrize('as_list', [False, True])
def test_a_scaled_learning_rate_keeps_its_ratio_to_the_minimum(as_list):
    cfg = config(8, scale=True)
    scheduler = dict(type='WarmupCosineLR', warmup=10, eta_min=1e-5)
    cfg.param_scheduler = [dict(type='ConstantLR'), scheduler] if as_list else scheduler
    note = apply_batch_rule(cfg, 1)
    scaled = cfg.param_scheduler[1] if as_list else cfg.param_scheduler
    assert scaled.eta_min == pytest.approx(1e-5 * 8 / 2048)
    assert note.endswith('to 3.125e-05, and its minimum to 3.90625e-08')


def test_a_kept_batch_keeps_the_minimum():
    cfg = config(256)
    cfg.param_scheduler = dict(type='WarmupCosineLR', warmup=10, eta_min=1e-5)
    apply_batch_rule(cfg, 8)
    assert cfg.param_scheduler.eta_min == 1e-5


def test_a_scaled_config_is_not_scaled_again():
    cfg = config(64, scale=True)
    apply_batch_rule(cfg, 1)
    before = chosen(cfg)
    apply_batch_rule(cfg, 1)
    assert chosen(cfg) == before


def test_a_batch_sampler_is_understood():
    cfg = config(1)
    cfg.train_dataloader = dict(batch_sampler=dict(type='BatchSampler', batch_size=512))
    apply_batch_rule(cfg, 8)
    assert cfg.train_dataloader.batch_sampler.batch_size == 256


def test_a_batch_sampler_without_a_size_takes_that_of_the_loader():
    cfg = config(4, base=256)
    sampler = dict(type='AspectRatioBatchSampler')
    cfg.train_dataloader = dict(batch_size=4, batch_sampler=sampler)
    apply_batch_rule(cfg, 8)
    assert cfg.optim_wrapper.accumulative_counts == 8
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.train_dataloader.batch_sampler == sampler


def test_a_config_without_a_base_batch_is_left_alone():
    cfg = config(48)
    cfg.pop('auto_scale_lr')
    before = cfg.to_dict()
    assert apply_batch_rule(cfg, 3) is None
    assert cfg.to_dict() == before


def test_a_learning_rate_is_a_number():
    cfg = config(256)
    cfg.optim_wrapper.optimizer.lr = 'fast'
    with pytest.raises(ValueError, match="lr='fast' must be a number"):
        apply_batch_rule(cfg, 8)


class DataLoader(list):
    dataset = range(12)


def runner(kind: type, batches: int, accumulation: int) -> SimpleNamespace:
    loop = kind.__new__(kind)
    loop.dataloader = DataLoader(range(batches))
    return SimpleNamespace(train_loop=loop, cfg=config(4, accumulation=accumulation))


def test_an_epoch_shorter_than_one_update_is_refused():
    with pytest.raises(ValueError, match=r'12 images make 3 batches.*accumulates 4.*--auto-scale'):
        check_epoch_length(runner(EpochBasedTrainLoop, 3, 4))


@pytest.mark.parametrize(
    'kind, batches', [(EpochBasedTrainLoop, 4), (EpochBasedTrainLoop, 5), (IterBasedTrainLoop, 1)]
)
def test_other_epochs_pass(kind, batches):
    check_epoch_length(runner(kind, batches, 4))


def test_the_same_batch_on_the_same_processes_goes_on_without_a_word():
    assert compare_plans(BatchPlan(8, 256, 2), BatchPlan(8, 256, 2)) is None


def test_the_same_iterations_on_other_processes_are_named():
    note = compare_plans(BatchPlan(8, 256, 2), BatchPlan(4, 512, 2))
    assert note.startswith('resumed with global batch 4096 = 4 × 512 × 2')
    assert 'stopped with 4096 = 8 × 256 × 2' in note
    assert 'not to the last bit' in note


@pytest.mark.parametrize(
    'now, remedy',
    [
        # The same global batch in twice the iterations, which schedules count.
        (BatchPlan(4, 256, 2), r'batch_size=512 and optim_wrapper\.accumulative_counts=1'),
        (BatchPlan(8, 128, 1), r'batch_size=256 and'),
        (BatchPlan(3, 256, 1), r'a number of processes that divides 2048'),
    ],
)
def test_other_iterations_are_refused_with_what_to_set(now, remedy):
    with pytest.raises(ValueError, match=remedy):
        compare_plans(BatchPlan(8, 256, 1), now)
