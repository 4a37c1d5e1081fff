"""The command line of the doctor: table, JSON and exit code."""

import json
import subprocess
import sys

import pytest

from a2mim.doctor import __main__ as doctor
from a2mim.doctor.checks import Finding, Verdict

FINE = Finding('core', 'timm', '1.0 [cpu]', needed=True)
EXTRA = Finding('extras', '[det]', 'without mmdet', Verdict.MISSING, "pip install '.[det]'")
BROKEN = Finding('core', 'torch', '2.13.0', Verdict.PROBLEM, 'pip install torch', needed=True)


@pytest.mark.parametrize(
    'findings, code', [([FINE], 0), ([FINE, EXTRA], 0), ([FINE, BROKEN, EXTRA], 1)]
)
def test_the_exit_code_is_that_of_the_core(monkeypatch, capsys, findings, code):
    monkeypatch.setattr(doctor, 'examine', lambda: findings)
    assert doctor.main([]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith('Training works' if code == 0 else 'Training does not work')


def test_what_was_found_and_what_to_do_are_shown_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'examine', lambda: [FINE, EXTRA])
    monkeypatch.setenv('COLUMNS', '120')
    doctor.main([])
    text = capsys.readouterr().out
    for words in ('1.0 [cpu]', '[det]', 'without mmdet', "pip install '.[det]'", 'missing'):
        assert words in text


def test_programs_read_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'examine', lambda: [BROKEN])
    assert doctor.main(['--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert report['works'] is False
    assert report['findings'][0] == dict(
        part='core',
        name='torch',
        found='2.13.0',
        verdict='problem',
        remedy='pip install torch',
        needed=True,
    )


def test_checks_with_torch_wait_until_torch_imports(monkeypatch):
    monkeypatch.setattr(doctor, 'check_core', lambda: [BROKEN])
    findings = doctor.examine()
    assert 'training' not in {finding.part for finding in findings}
    assert 'PyTorch' not in {finding.name for finding in findings}


@pytest.mark.integration
def test_this_machine_is_examined_and_no_extra_is_imported():
    code = (
        'import sys; from a2mim.doctor.__main__ import main; code = main(["--json"]); '
        'assert not {"onnx", "onnxruntime", "mmdet", "mmseg", "webdataset"} & sys.modules.keys(); '
        'sys.exit(code)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report['works'] is True
    assert {'machine', 'core', 'training', 'extras'} == {
        finding['part'] for finding in report['findings']
    }
