"""Learning rates of configs against closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from a2mim.analysis.runs import read_rates
from toy_run import load_tool, toy_config


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('a2mim')


def test_cosine_after_a_linear_warmup(tmp_path: Path) -> None:
    schedule = dict(
        type='WarmupCosineLR', by_epoch=True, convert_to_iter_based=True, eta_min=1e-5, warmup=1
    )
    cfg = toy_config(tmp_path)
    cfg.param_scheduler = schedule
    rates = read_rates(cfg, dataset_size=20)
    # Batches of 4: 5 iterations an epoch, 4 epochs.
    regular = [1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * (i - 5) / 15)) / 2 for i in range(20)]
    expected = [min(i / 5, 1) * rate for i, rate in enumerate(regular)]
    assert rates.epoch_length == 5
    np.testing.assert_allclose(rates.values['lr'][:, 0], expected, rtol=1e-12)


def test_processes_share_the_images(tmp_path: Path) -> None:
    assert read_rates(toy_config(tmp_path), dataset_size=32, processes=2).epoch_length == 4


def test_a_schedule_by_epoch_has_steps(tmp_path: Path) -> None:
    schedule = dict(type='MultiStepLR', milestones=[2], gamma=0.1, by_epoch=True)
    cfg = toy_config(tmp_path)
    cfg.param_scheduler = schedule
    lr = read_rates(cfg, dataset_size=8).values['lr']
    np.testing.assert_allclose(lr[:, 0], [1e-3] * 4 + [1e-4] * 4)


def test_weight_decay_is_there_where_it_is_scheduled(tmp_path: Path) -> None:
    schedule = [dict(type='ConstantLR', factor=1.0), dict(type='LinearParamScheduler',
                param_name='weight_decay', start_factor=0.5, end=2, by_epoch=True)]  # fmt: skip
    values = read_rates(toy_config(tmp_path, param_scheduler=schedule), 4).values
    assert sorted(values) == ['lr', 'weight_decay']


def test_every_scale_of_a_layer_decay_has_a_column(tmp_path: Path) -> None:
    cfg = toy_config(
        tmp_path,
        model__backbone__model_name='test_vit',
        optim_wrapper=dict(
            constructor='ParamRuleConstructor',
            optimizer=dict(type='AdamW', lr=1.0),
            paramwise_cfg=dict(layer_decay=0.5, rules=dict(bias=dict(weight_decay=0.0))),
        ),
    )
    initial = read_rates(cfg, dataset_size=4).initial
    np.testing.assert_allclose(initial, [0.5**layer for layer in range(len(initial))])
    assert len(initial) > 3


def test_a_config_without_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no param_scheduler'):
        read_rates(toy_config(tmp_path, param_scheduler=None), dataset_size=4)


def test_the_tool_draws_without_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    toy_config(tmp_path).dump(tmp_path / 'toy.py')
    tool, out = load_tool('visualizations/vis_lr'), tmp_path / 'lr.pdf'
    common = [str(tmp_path / 'toy.py'), '--dataset-size', '12', '--save-path', str(out)]
    tool.main(common)
    assert out.is_file() and '12 iterations, 1 learning rate(s)' in capsys.readouterr().out
    for wrong in (['--window-size', '12x7'], ['--style', 'nope'], ['--ngpus', '0']):
        with pytest.raises(SystemExit, match='2'):
            tool.main([*common, *wrong])
        assert wrong[0] in capsys.readouterr().err
