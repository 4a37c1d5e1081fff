"""The scripts of the detectors, with two processes on the CPU."""

import json
import os
import socket
import subprocess
import sys

import pytest

from shrunk_detector import CONFIGS, ROOT, options

pytestmark = pytest.mark.transfer
C4 = CONFIGS / 'mask-rcnn_r50-c4_ms-1x_coco.py'
FPN = CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'


def bash(script: str, *args: object) -> subprocess.CompletedProcess:
    # The rendezvous of a run that started this one must not leak into it.
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    return subprocess.run(
        ['bash', str(ROOT / 'det_mmdetection' / script), *map(str, args)],
        cwd=ROOT,
        env={**clean, 'PYTHON': sys.executable, 'PORT': port},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_two_processes_train_and_evaluate_a_c4_detector(shapes, trunk, tmp_path):
    line = [*options(C4, shapes, 96), 'train_cfg.max_epochs=1']
    line += ['train_dataloader.batch_size=1', '--work-dir', tmp_path]
    result = bash('mim_dist_train_c4.sh', C4, trunk(C4), 2, *line)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'global batch 2 = 2 × 1 × 1' in result.stdout + result.stderr
    result = bash('mim_dist_test.sh', C4, tmp_path / 'latest.pth', 2, *line[:-2])
    assert result.returncode == 0, result.stderr[-3000:]
    (tested,) = (tmp_path / 'test').glob('*/*.json')
    assert 'coco/bbox_mAP' in json.loads(tested.read_text(encoding='utf-8'))


def test_a_detector_without_shared_head_is_refused_as_c4(trunk):
    result = bash('mim_dist_train_c4.sh', FPN, trunk(FPN), 1)
    assert result.returncode == 2
    assert result.stderr.count('error: ') == 1
    assert 'has no model.roi_head.shared_head' in result.stderr
