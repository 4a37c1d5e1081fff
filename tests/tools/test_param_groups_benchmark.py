"""The benchmark of parameter groups measures groupings of the same parameters."""

from types import ModuleType

import pytest
from mmengine import Config

from a2mim.registry import MODELS
from toy_run import ROOT, load_tool


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    return load_tool('benchmarks/param_groups')


@pytest.fixture
def forms(benchmark) -> dict:
    cfg = Config.fromfile(benchmark.CONFIG)
    cfg.model.backbone.model_name = 'resnet10t'
    return benchmark.build_forms(MODELS.build(cfg.model), cfg.optim_wrapper)


def test_every_form_gives_each_parameter_the_same_rate_and_decay(forms):
    options = [
        {
            id(parameter): (group['lr'], group['weight_decay'])
            for group in optimizer.param_groups
            for parameter in group['params']
        }
        for optimizer in forms.values()
    ]
    assert len(options) == 4
    assert all(other == options[0] for other in options)


def test_only_the_forms_called_fused_are_fused(forms):
    for name, optimizer in forms.items():
        assert {bool(group['fused']) for group in optimizer.param_groups} == {'fused' in name}


def test_a_round_prints_a_row_per_form(benchmark, forms, capsys):
    args = benchmark.make_parser('', rounds=1).parse_args(['--clock', 'processor'])
    benchmark.print_table(forms, args)
    rows = capsys.readouterr().out.splitlines()[-4:]
    assert [row.split(' | ')[0] for row in rows] == [f'| {name}' for name in forms]
