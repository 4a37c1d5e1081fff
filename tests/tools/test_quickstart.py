"""The quick start: its table, and its refusal to write over an earlier run."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / 'tools/quickstart.py'


@pytest.fixture(scope='module')
def quickstart():
    spec = importlib.util.spec_from_file_location('quickstart', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(pre: float, scratch: float) -> dict:
    return {
        name: {'pre-trained': pre, 'from scratch': scratch}
        for name in ('linear probe', 'fine-tuning')
    }


def test_one_seed_has_no_spread(quickstart):
    assert quickstart.mean_and_spread([61.25]) == '61.2'


def test_several_seeds_give_mean_and_standard_deviation(quickstart):
    assert quickstart.mean_and_spread([60.0, 62.0, 64.0]) == '62.0 ± 2.0'


def test_the_gain_is_paired_by_seed_and_may_be_negative(quickstart, capsys):
    quickstart.show([result(60, 50), result(40, 60)])
    assert '-5.0 ± 21.2' in capsys.readouterr().out


def test_an_earlier_run_is_not_overwritten(quickstart, tmp_path, capsys):
    (tmp_path / 'seed0').mkdir()
    with pytest.raises(SystemExit):
        quickstart.main(['--work-dir', str(tmp_path)])
    assert 'exists already' in capsys.readouterr().err


def test_every_config_it_names_is_there(quickstart):
    configs = [quickstart.PRETRAIN, *quickstart.CLASSIFIERS.values()]
    assert all((PATH.parents[1] / config).is_file() for config in configs)
