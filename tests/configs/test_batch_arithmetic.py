"""However many processes train a recipe, its learning rate belongs to the batch that it gets."""

import copy
from functools import cache
from pathlib import Path

import pytest
from mmengine import Config

from a2mim.engine.config_edit import apply_batch_rule
from recipes_on_disk import EXPERIMENTS, name_of

every_experiment = pytest.mark.parametrize('path', EXPERIMENTS, ids=name_of)


@cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def global_batch(config: Config, processes: int) -> int:
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    return processes * config.train_dataloader.batch_size * accumulated


def minimum(config: Config) -> float:
    return config.param_scheduler.get('eta_min', 0.0)


@every_experiment
@pytest.mark.parametrize('processes', [1, 2, 4, 8, 16])
def test_by_default_the_global_batch_stays_and_so_does_the_rate(path, processes):
    before, config = read(path), copy.deepcopy(read(path))
    base = before.auto_scale_lr.base_batch_size
    if base % processes:
        with pytest.raises(ValueError, match='--auto-scale-lr'):
            apply_batch_rule(config, processes)
        return
    note = apply_batch_rule(config, processes)
    assert global_batch(config, processes) == base
    assert config.optim_wrapper.optimizer.lr == before.optim_wrapper.optimizer.lr
    assert note.startswith(f'global batch {base} = ')
    assert 'learning rate as configured' in note


@every_experiment
@pytest.mark.parametrize('processes', [1, 3, 8, 64])
def test_on_request_the_rate_follows_the_batch_linearly(path, processes):
    before, config = read(path), copy.deepcopy(read(path))
    config.auto_scale_lr.enable = True
    note = apply_batch_rule(config, processes)
    batch = global_batch(before, processes)
    factor = batch / before.auto_scale_lr.base_batch_size
    assert global_batch(config, processes) == batch
    lr = before.optim_wrapper.optimizer.lr
    assert config.optim_wrapper.optimizer.lr == pytest.approx(factor * lr)
    assert minimum(config) == pytest.approx(factor * minimum(before))
    assert ('learning rate scaled by' in note) == (factor != 1)


@every_experiment
def test_the_published_number_of_gpus_needs_neither(path):
    config = read(path)
    per_process = config.train_dataloader.batch_size * config.optim_wrapper.get(
        'accumulative_counts', 1
    )
    assert config.auto_scale_lr.base_batch_size % per_process == 0
