"""The scripts of the segmentors: what they start, and how they refuse."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ('mim_dist_train.sh', 'mim_dist_test.sh')
CONFIG = 'seg_mmsegmentation/configs/ade20k/upernet_r50_4xb4-160k_ade20k-512x512.py'


def bash(script: str, *args: str, python: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', str(ROOT / 'seg_mmsegmentation' / script), *args],
        env={**os.environ, 'PYTHON': str(python)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter that only shows its command line."""
    path = tmp_path / 'python'
    path.write_text('#!/usr/bin/env bash\necho "$@"\n')
    path.chmod(0o755)
    return path


def started(result: subprocess.CompletedProcess) -> list[str]:
    """The command line behind the options of torchrun."""
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    return words[next(i for i, word in enumerate(words) if word.startswith('--nproc')) :]


def test_training_takes_config_pretrain_and_gpus(python):
    result = bash('mim_dist_train.sh', CONFIG, 'a/trunk.pth', '8', 'x.y=3', python=python)
    assert started(result) == [
        '--nproc_per_node=8',
        *('-m', 'a2mim.transfer.train', CONFIG, 'a/trunk.pth'),
        *('--launcher', 'pytorch', 'x.y=3'),
    ]


def test_evaluation_takes_config_checkpoint_and_gpus(python):
    result = bash('mim_dist_test.sh', CONFIG, 'iter_160000.pth', '1', python=python)
    assert started(result) == [
        '--nproc_per_node=1',
        *('-m', 'a2mim.transfer.test', CONFIG, 'iter_160000.pth', '--launcher', 'pytorch'),
    ]


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_missing_argument_is_a_usage_error(python, script):
    result = bash(script, CONFIG, 'trunk.pth', python=python)
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash seg_mmsegmentation/{script} CONFIG ')
    assert result.stdout == ''


@pytest.mark.parametrize('script', SCRIPTS)
def test_arguments_in_another_order_are_refused(python, script):
    result = bash(script, CONFIG, '8', 'trunk.pth', python=python)
    assert result.returncode == 2
    assert "number of processes is 'trunk.pth'" in result.stderr
