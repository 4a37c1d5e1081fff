"""The tool with a few kills of both kinds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools/reliability/kill_and_resume.py'


@pytest.mark.slow
def test_runs_that_are_killed_become_the_undisturbed_run(tmp_path):
    figures = tmp_path / 'kills.json'
    subprocess.run([sys.executable, TOOL, '--kills', '6', '--out', figures], check=True)
    found = json.loads(figures.read_text())
    assert (found['kills'], found['kills within a write'], found['failures']) == (6, 3, [])
    assert found['completed runs'] >= 1
    assert found['losses compared'] >= 28
