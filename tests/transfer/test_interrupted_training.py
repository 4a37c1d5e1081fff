"""SIGTERM within an epoch: the scripts save, exit with 75, and the resumed run is the same one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import shrunk_detector
import shrunk_segmentor
from toy_run import ROOT, read_scalars
from two_processes import free_port

pytestmark = pytest.mark.transfer
DETECTOR = shrunk_detector.CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'
SEGMENTOR = shrunk_segmentor.CONFIGS / 'upernet_r50_4xb4-160k_ade20k-512x512.py'
TRY_AGAIN = 75


def start(script: str, config: Path, weights: Path, *options: object) -> subprocess.Popen:
    """Two gloo processes of a transfer script."""
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}
    return subprocess.Popen(
        ['bash', str(ROOT / script), *map(str, (config, weights, 2, *options))],
        cwd=ROOT,
        env={**clean, 'PYTHON': sys.executable, 'PORT': free_port(), 'CUDA_VISIBLE_DEVICES': ''},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def wait_for_step(process: subprocess.Popen, work_dir: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if any(line.get('step') == step for line in read_scalars(work_dir)):
            return
        time.sleep(0.05)
    raise AssertionError(f'step {step} was not logged; {finish(process)[1][-2000:]}')


def losses(work_dir: Path) -> dict[int, float]:
    """The loss of each step; a later run of the folder counts."""
    return {line['step']: line['loss'] for line in read_scalars(work_dir) if 'loss' in line}


def weights_of(work_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(work_dir / 'latest.pth', weights_only=False)['state_dict']


def detector_options(data: Path) -> list[str]:
    workers = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
    return [
        *shrunk_detector.options(DETECTOR, data, 64),
        *workers,
        'train_dataloader.batch_size=1',
        'val_evaluator=None',
        'val_dataloader=None',
        'val_cfg=None',
    ]


def segmentor_options(data: Path) -> list[str]:
    return [
        *shrunk_segmentor.options(SEGMENTOR, data, 64),
        'train_dataloader.num_workers=1',
        'auto_scale_lr.base_batch_size=4',
        'train_cfg.max_iters=8',
        'train_cfg.val_interval=100',
        'default_hooks.checkpoint.interval=100',
        'val_evaluator=None',
        'val_dataloader=None',
        'val_cfg=None',
    ]


def write_detection(root: Path) -> Path:
    return shrunk_detector.write_shapes(root, images=10, val=2, size=64)


def write_segmentation(root: Path) -> Path:
    return shrunk_segmentor.write_shapes(root, images=10, val=2)


@pytest.mark.parametrize(
    ('script', 'config', 'write', 'options'),
    [
        ('det_mmdetection/mim_dist_train.sh', DETECTOR, write_detection, detector_options),
        ('seg_mmsegmentation/mim_dist_train.sh', SEGMENTOR, write_segmentation, segmentor_options),
    ],
    ids=['detection', 'segmentation'],
)
def test_a_run_stopped_within_an_epoch_resumes_bit_for_bit(
    script: str,
    config: Path,
    write: Callable[[Path], Path],
    options: Callable[[Path], list[str]],
    trunk: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    line = options(write(tmp_path / 'data'))
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    code, output = finish(start(script, config, trunk(config), *line, '--work-dir', whole))
    assert code == 0, output[-3000:]
    process = start(script, config, trunk(config), *line, '--work-dir', cut)
    wait_for_step(process, cut, 2)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == TRY_AGAIN, output[-3000:]
    stopped_after = max(losses(cut))
    assert stopped_after % 5, 'the signal has to come within an epoch of five steps'
    code, output = finish(
        start(script, config, trunk(config), *line, '--work-dir', cut, '--resume')
    )
    assert code == 0, output[-3000:]
    expected = losses(whole)
    assert len(expected) == max(expected) >= 8
    assert losses(cut) == expected
    left, right = weights_of(cut), weights_of(whole)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
