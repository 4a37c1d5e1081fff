"""A schedule in iterations sees the same images on any number of processes."""

import pytest
from mmengine import Config

from a2mim.engine.config_edit import stretch_iterations


def segmentor(accumulation: int = 1, **train_cfg: int) -> Config:
    return Config(
        dict(
            train_cfg=train_cfg or dict(max_iters=160000, val_interval=16000),
            optim_wrapper=dict(accumulative_counts=accumulation),
            default_hooks=dict(checkpoint=dict(interval=16000), logger=dict(interval=50)),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=1500),
                dict(type='PolyLR', by_epoch=False, begin=1500, end=160000),
                dict(type='ConstantLR', by_epoch=True, begin=0, end=3),
            ],
        )
    )


def test_four_iterations_per_step_take_four_times_as_many():
    cfg = segmentor(accumulation=4)
    assert '640000 iterations' in stretch_iterations(cfg, before=1)
    assert cfg.train_cfg == dict(max_iters=640000, val_interval=64000)
    assert cfg.default_hooks == dict(checkpoint=dict(interval=64000), logger=dict(interval=50))
    spans = [(item.begin, item.end) for item in cfg.param_scheduler]
    assert spans == [(0, 6000), (6000, 640000), (0, 3)]


@pytest.mark.parametrize(('accumulation', 'before'), [(1, 1), (4, 4)])
def test_a_schedule_for_these_processes_stays(accumulation, before):
    cfg = segmentor(accumulation)
    assert stretch_iterations(cfg, before) is None
    assert cfg.to_dict() == segmentor(accumulation).to_dict()


def test_a_written_config_shrinks_on_more_processes():
    cfg = segmentor(accumulation=2)
    stretch_iterations(cfg, before=4)
    assert cfg.train_cfg.max_iters == 80000


def test_a_schedule_in_epochs_stays():
    cfg = segmentor(accumulation=4, max_epochs=12)
    assert stretch_iterations(cfg, before=1) is None
    assert cfg.param_scheduler[1].end == 160000
