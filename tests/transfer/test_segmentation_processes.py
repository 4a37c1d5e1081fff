"""The scripts of the segmentors, with two processes on the CPU, and with wrong weights."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from shrunk_segmentor import CONFIGS, ROOT, options, write_shapes

pytestmark = pytest.mark.transfer
UPERNET = CONFIGS / 'upernet_r50_4xb4-160k_ade20k-512x512.py'


def bash(script: str, *args: object) -> subprocess.CompletedProcess:
    # The rendezvous of a run that started this one must not leak into it.
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key}
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    return subprocess.run(
        ['bash', str(ROOT / 'seg_mmsegmentation' / script), *map(str, args)],
        cwd=ROOT,
        env={**clean, 'PYTHON': sys.executable, 'PORT': port},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def label_maps(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / 'shapes', images=8, val=2)


def test_two_processes_train_and_evaluate(label_maps, trunk, tmp_path):
    line = [*options(UPERNET, label_maps, 64), 'auto_scale_lr.base_batch_size=8']
    line += ['train_cfg.max_iters=2', 'train_cfg.val_interval=4', '--work-dir', tmp_path / 'run']
    result = bash('mim_dist_train.sh', UPERNET, trunk(UPERNET), 2, *line)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-3000:]
    # Two processes accumulate twice, so that the schedule is twice as long.
    assert 'global batch 8 = 2 × 2 × 2' in output
    assert 'the schedule takes 4 iterations' in output
    result = bash('mim_dist_test.sh', UPERNET, tmp_path / 'run/latest.pth', 2, *line[:-2])
    assert result.returncode == 0, result.stderr[-3000:]
    (tested,) = (tmp_path / 'run/test').glob('*/*.json')
    assert 'mIoU' in json.loads(tested.read_text(encoding='utf-8'))


def other_family(path: Path) -> None:
    torch.save(timm.create_model('convnext_atto', num_classes=0).state_dict(), path)


def only_a_classifier(path: Path) -> None:
    torch.save({'fc.weight': torch.zeros(10, 2048), 'fc.bias': torch.zeros(10)}, path)


def half_a_trunk(path: Path) -> None:
    state = timm.create_model('resnet50', num_classes=0).state_dict()
    torch.save({key: state[key] for key in state if 'layer4' not in key}, path)


def a_file_cut_short(path: Path) -> None:
    half_a_trunk(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize('write', [other_family, only_a_classifier, half_a_trunk, a_file_cut_short])
def test_wrong_weights_are_refused_by_name_before_the_data_is_read(write, tmp_path, capsys):
    from a2mim.transfer import train

    path = tmp_path / 'wrong.pth'
    write(path)
    line = [str(UPERNET), str(path), '--work-dir', str(tmp_path / 'run')]
    # The folder of ADE20K is not there: weights come first.
    with pytest.raises(SystemExit) as exit_info:
        train.main(line)
    assert exit_info.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith('error: ')
    assert 'wrong.pth' in message
