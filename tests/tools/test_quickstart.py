"""The quick start: its table, and what it does not do a second time."""

import importlib.util
import json
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


def test_what_is_complete_is_not_done_again(quickstart, tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(quickstart, 'run', lambda *words: calls.append(words))
    (tmp_path / 'seed0').mkdir()
    summary = dict(accuracy=result(61.2, 50))
    (tmp_path / 'seed0/summary.json').write_text(json.dumps(summary))
    quickstart.main(['--work-dir', str(tmp_path)])
    assert calls == []
    assert '61.2' in capsys.readouterr().out


def test_a_stopped_one_resumes_in_the_middle(quickstart, tmp_path, monkeypatch):
    calls = []

    def run(*words: object) -> None:
        calls.append([str(word) for word in words])
        if words[0] == 'tools/test.py':
            Path(words[-1]).parent.mkdir(exist_ok=True)
            Path(words[-1]).write_text('{"accuracy/top1": 20}')

    monkeypatch.setattr(quickstart, 'run', run)
    (tmp_path / 'linear_probe_pre-trained').mkdir()
    (tmp_path / 'trunk.pth').touch()
    (tmp_path / 'linear_probe_pre-trained/test.json').write_text('{"accuracy/top1": 10}')
    accuracy = quickstart.run_seed(tmp_path, 0)
    assert accuracy['linear probe'] == {'pre-trained': 10, 'from scratch': 20}
    trained = [words for words in calls if words[0] == 'tools/train.py']
    assert len(trained) == 3
    assert all('--resume' in words for words in trained)


def test_every_config_it_names_is_there(quickstart):
    configs = [quickstart.PRETRAIN, *quickstart.CLASSIFIERS.values()]
    assert all((PATH.parents[1] / config).is_file() for config in configs)
