"""A mistake on the command line of a tool is one line and exit code 2."""

import runpy

import pytest

from toy_run import ROOT


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('model_converters/extract_backbone_weights.py', ['gone', 'out.pth']),
        ('model_converters/export_backbone.py', ['gone', 'out.pth', '--to', 'timm']),
        ('model_converters/publish_model.py', ['gone', 'out.pth']),
        ('model_converters/openmixup_to_a2mim.py', ['gone', 'out.pth']),
        ('analysis_tools/list_stages.py', ['gone']),
        ('prepare_data/compute_stats.py', ['gone']),
        ('analysis_tools/evaluate_features.py', ['gone', 'out.pth']),
    ],
)
def test_an_error_is_one_line(monkeypatch, capsys, tool, arguments):
    monkeypatch.setattr('sys.argv', [tool, *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('error: ') and 'gone' in lines[0]
