"""The check of one GPU runs on a CPU in its reduced form, and keeps what it has found."""

import json

import pytest
import torch

from toy_run import ROOT, load_tool

pytestmark = pytest.mark.integration
DISTANCES = ('output', 'dx', 'd_weight', 'd_bias')


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    return load_tool('benchmarks/gpu_check')


def test_every_part_runs_and_the_table_names_the_machine(tool, tmp_path, capsys):
    file = tmp_path / 'found.json'
    argv = f'--device cpu --reduced --threads 1 --models vit_base --json {file}'
    tool.main(argv.split())
    rows = json.loads(file.read_text())
    assert 'failed' not in rows and 'skipped' not in rows, rows
    assert rows.keys() == {'machine', *tool.SECONDS, 'end'}
    assert [row['what'] for row in rows['precision']] == ['float32', 'tf32', 'bf16']
    assert rows['train'][0]['images_s'] > 0 and rows['train'][0]['checkpoint_pauses_s']
    assert rows['step'][0]['peak_mib'] is None  # a CPU has no such figure
    out = capsys.readouterr().out
    table = out[out.rindex('| what | value |') :].splitlines()
    assert table[2].startswith('| step, vit_base') and 'not measured' in table[2]
    assert f'{rows["machine"][0]["what"]}\n\n| what |' in out


def test_joint_batch_norm_equals_the_formulas_and_an_error_would_show(tool, monkeypatch):
    from gpu_norm import norm_errors

    rows = list(norm_errors('cpu'))
    assert len(rows) == 18 and all(row['ok'] for row in rows)
    assert all(row['largest'] == max(row[key] for key in DISTANCES) for row in rows)
    right = tool.sys.modules['gpu_norm'].joint.input_gradient
    monkeypatch.setattr(
        'a2mim.engine.sync_batch_norm.input_gradient', lambda *args: 1.02 * right(*args)
    )
    assert not any(row['ok'] for row in norm_errors('cpu'))


def test_a_part_that_fails_or_has_no_time_leaves_the_others(tool, tmp_path, monkeypatch):
    def fail(check):
        raise RuntimeError('no kernel')

    monkeypatch.setattr(tool, 'check_norm', fail)
    monkeypatch.setitem(tool.SECONDS, 'waits', 10**6)
    monkeypatch.setattr(tool, 'compare_precision', lambda check: check.note('precision', it='ran'))
    monkeypatch.setattr(tool, 'summary', lambda check: [])
    file = tmp_path / 'found.json'
    parts = '--parts norm waits precision --models resnet50'
    tool.main(f'--device cpu --json {file} {parts}'.split())
    rows = json.loads(file.read_text())
    assert rows['failed'] == [{'part': 'norm', 'error': 'RuntimeError: no kernel'}]
    assert rows['skipped'][0]['part'] == 'waits'
    assert rows['precision'] == [{'it': 'ran'}]


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_the_table_has_what_only_a_gpu_tells(tool, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    with pytest.warns(UserWarning, match='CUDA is not available'):
        inside = tool.look_inside(lambda: tool.torch.ones(3).sum())
    assert inside.keys() == {'launches', 'synchronizations', 'host_ms', 'kernel_ms'}
    assert inside['launches'] == inside['synchronizations'] == 0 < inside['host_ms']
    inside.update(part='step', model='vit_base', who='timm', busy=0.876, launches=1234)
    check = tool.argparse.Namespace(rows={'inside': [inside], 'failed': [{'part': 'norm'}]})
    text = '\n'.join(tool.summary(check))
    assert 'device busy 0.88, 1234 launches, 0 synchronisations' in text
    assert "| failed | {'part': 'norm'} |" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_the_command_says_what_to_do(tool, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.main(['--device', 'cuda'])
    assert '--device cpu --reduced' in capsys.readouterr().err
