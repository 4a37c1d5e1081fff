"""The benchmark of decoding compares three forms of one computation."""

import torch

from a2mim.weights.config_files import read_config
from toy_run import ROOT, load_tool


def test_all_forms_give_the_same_losses_and_gradients_and_a_row(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    benchmark = load_tool('benchmarks/decoding')
    monkeypatch.setattr(benchmark, 'CHANNELS', 8)
    monkeypatch.setattr(benchmark, 'SIZE', 128)
    forms = benchmark.build_forms(read_config(benchmark.RECIPE), 2, 'cpu')
    expected, *others = (form() for form in forms.values())
    assert len(expected) == 5 and all(x.abs().sum() > 0 for x in expected)
    for results in others:
        torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-6)
    benchmark.main(['--batches', '2', '--rounds', '1', '--threads', '1'])
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [row[1] for row in rows] == [*forms]
    assert all(float(row[2]) > 0 and float(row[-1].strip('| ')) < 1e-4 for row in rows)
