"""However many processes train a recipe, its learning rate belongs to the batch that it gets."""

from collections.abc import Iterator

import pytest
from mmengine import Config

from a2mim.engine.config_edit import apply_batch_rule
from recipes import EXPERIMENTS, name_of

PARTS = ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')


def experiments() -> Iterator[tuple[str, Config]]:
    """Name, and the parts of the config that the rule reads and writes."""
    for path in EXPERIMENTS:
        config = Config.fromfile(path)
        yield name_of(path), Config({part: config[part].to_dict() for part in PARTS})


def copy_of(config: Config) -> Config:
    return Config(config.to_dict())


def global_batch(config: Config, processes: int) -> int:
    accumulated = config.optim_wrapper.get('accumulative_counts', 1)
    return processes * config.train_dataloader.batch_size * accumulated


def test_by_default_the_global_batch_stays_and_so_does_the_rate():
    for name, before in experiments():
        base = before.auto_scale_lr.base_batch_size
        for processes in (1, 2, 4, 8, 16):
            config, case = copy_of(before), f'{name} on {processes} processes'
            if base % processes:
                with pytest.raises(ValueError, match='--auto-scale-lr'):
                    apply_batch_rule(config, processes)
                continue
            note = apply_batch_rule(config, processes)
            assert global_batch(config, processes) == base, case
            assert config.optim_wrapper.optimizer.lr == before.optim_wrapper.optimizer.lr, case
            assert note.startswith(f'global batch {base} = '), case
            assert 'learning rate as configured' in note, case


def test_on_request_the_rate_follows_the_batch_linearly():
    for name, before in experiments():
        rate = before.optim_wrapper.optimizer.lr
        minimum = before.param_scheduler.get('eta_min', 0.0)
        for processes in (1, 3, 8, 64):
            config, case = copy_of(before), f'{name} on {processes} processes'
            config.auto_scale_lr.enable = True
            note = apply_batch_rule(config, processes)
            batch = global_batch(before, processes)
            factor = batch / before.auto_scale_lr.base_batch_size
            assert global_batch(config, processes) == batch, case
            assert config.optim_wrapper.optimizer.lr == pytest.approx(factor * rate), case
            found = config.param_scheduler.get('eta_min', 0.0)
            assert found == pytest.approx(factor * minimum), case
            assert ('learning rate scaled by' in note) == (factor != 1), case


def test_the_published_number_of_gpus_needs_neither():
    for name, config in experiments():
        assert config.auto_scale_lr.base_batch_size % global_batch(config, 1) == 0, name
