"""The scripts of detectors and segmentors: what they start, and how they refuse."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DETECTOR = 'det_mmdetection/configs/coco/mask-rcnn_r50-c4_ms-1x_coco.py'
SEGMENTOR = 'seg_mmsegmentation/configs/ade20k/upernet_r50_4xb4-160k_ade20k-512x512.py'
TRAINING = [
    ('det_mmdetection/mim_dist_train.sh', DETECTOR, []),
    ('det_mmdetection/mim_dist_train_c4.sh', DETECTOR, ['--shared-head']),
    ('seg_mmsegmentation/mim_dist_train.sh', SEGMENTOR, []),
]
EVALUATION = [
    ('det_mmdetection/mim_dist_test.sh', DETECTOR),
    ('seg_mmsegmentation/mim_dist_test.sh', SEGMENTOR),
]
ALL = [(script, config) for script, config, *_ in (*TRAINING, *EVALUATION)]


def bash(script: str, *args: str, python: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', str(ROOT / script), *args],
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


@pytest.mark.parametrize(('script', 'config', 'added'), TRAINING)
def test_training_takes_config_pretrain_and_gpus(python, script, config, added):
    result = bash(script, config, 'a/trunk.pth', '8', 'x.y=3', '--resume', python=python)
    assert started(result) == [
        '--nproc_per_node=8',
        *('-m', 'a2mim.transfer.train', config, 'a/trunk.pth'),
        *('--launcher', 'pytorch', *added, 'x.y=3', '--resume'),
    ]


@pytest.mark.parametrize(('script', 'config'), EVALUATION)
def test_evaluation_takes_config_checkpoint_and_gpus(python, script, config):
    result = bash(script, config, 'epoch_12.pth', '1', python=python)
    assert started(result) == [
        '--nproc_per_node=1',
        *('-m', 'a2mim.transfer.test', config, 'epoch_12.pth', '--launcher', 'pytorch'),
    ]


@pytest.mark.parametrize(('script', 'config'), ALL)
def test_a_missing_argument_is_a_usage_error(python, script, config):
    result = bash(script, config, 'trunk.pth', python=python)
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash {script} CONFIG ')
    assert result.stdout == ''


@pytest.mark.parametrize(('script', 'config'), ALL)
def test_arguments_in_another_order_are_refused(python, script, config):
    result = bash(script, config, '8', 'trunk.pth', python=python)
    assert result.returncode == 2
    assert "number of processes is 'trunk.pth'" in result.stderr
