"""The benchmark of masked passes compares one network with itself."""

import torch

from toy_run import ROOT, load_tool


def test_both_layouts_give_the_same_outputs_and_a_row(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    benchmark = load_tool('benchmarks/masked_passes')
    monkeypatch.setattr(benchmark, 'GRID', 8)  # of the 160 pixels of the test network
    ours, default = (form() for form in benchmark.build_forms('test_resnet', 4, 'cpu').values())
    torch.testing.assert_close(ours, default, rtol=1e-4, atol=1e-5)
    assert ours.std() > 0
    benchmark.main(['--models', 'test_resnet', '--rounds', '1', '--batch-size', '4'])
    row = capsys.readouterr().out.splitlines()[-1].split(' | ')
    assert row[0] == '| test_resnet'
    assert float(row[1]) > 0 < float(row[2])
