"""The shell scripts: what they start, and two real processes on the CPU."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from a2mim.registry import MODELS
from toy_run import ROOT, load_tool, read_scalars, toy_config, write_images

PRETRAIN = 'configs/openmixup/pretrain/a2mim/imagenet/r50.py'
FINETUNE = 'configs/openmixup/finetune/imagenet/r50_rsb_a3.py'


def bash(cwd: Path, script: str, *args: str, **variables: str) -> subprocess.CompletedProcess:
    """A script as a person without a GPU would call it; without one, processes use gloo."""
    # The rendezvous of a run that started this one must not leak into it.
    clean = {key: value for key, value in os.environ.items() if 'RANK' not in key and key != 'PORT'}
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *args],
        cwd=cwd,
        env={**clean, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '', **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture
def started(tmp_path: Path) -> dict[str, str]:
    """An interpreter that only shows its command line and threads."""
    python = tmp_path / 'python'
    python.write_text('#!/usr/bin/env bash\necho "$OMP_NUM_THREADS $MKL_NUM_THREADS $*"\n')
    python.chmod(0o755)
    return {'PYTHON': str(python)}


def command(result: subprocess.CompletedProcess) -> list[str]:
    """What is started in every process."""
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    return words[next(i for i, word in enumerate(words) if word.startswith('--nproc')) :]


def test_training_starts_a_process_per_gpu_and_passes_options_on(tmp_path, started):
    options = ('--seed', '3', '--precision', 'auto')
    words = command(bash(tmp_path, 'dist_train.sh', PRETRAIN, '8', *options, **started))
    assert words[0] == '--nproc_per_node=8'
    assert words[1].endswith('tools/train.py')
    assert words[2:] == [PRETRAIN, '--launcher', 'pytorch', *options]


def test_evaluation_takes_the_checkpoint_third(tmp_path, started):
    words = command(bash(tmp_path, 'dist_test.sh', FINETUNE, '2', 'a.pth', **started))
    assert words[1].endswith('tools/test.py')
    assert words[2:] == [FINETUNE, 'a.pth', '--launcher', 'pytorch']


@pytest.mark.parametrize('gpus', ['4', '8'])
def test_fine_tuning_gets_a_folder_per_checkpoint(tmp_path, started, gpus):
    pretrain = 'work_dirs/pretrain/r50/latest.pth'
    script = f'dist_train_ft_{gpus}gpu.sh'
    words = command(bash(tmp_path, script, FINETUNE, pretrain, '--amp', **started))
    assert words[0] == f'--nproc_per_node={gpus}'
    assert words[5:] == [
        '--pretrained',
        pretrain,
        '--work-dir',
        'work_dirs/openmixup/finetune/imagenet/r50_rsb_a3/r50/latest.pth',
        '--amp',
    ]


def test_machines_meet_where_the_variables_say(tmp_path, started):
    where = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
    result = bash(tmp_path, 'dist_train.sh', PRETRAIN, '8', **where, **started)
    for word in ('--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=1234'):
        assert word in result.stdout.split()


@pytest.mark.parametrize(
    ('variables', 'port'),
    [
        ({}, 'free'),
        (dict(PORT=''), 'free'),
        (dict(PORT='1234'), '1234'),
        (dict(NNODES='2'), '29500'),
    ],
)
@pytest.mark.parametrize(
    ('script', 'args'),
    [
        ('tools/dist_train.sh', (PRETRAIN, '2')),
        ('tools/dist_test.sh', (FINETUNE, '2', 'a.pth')),
        ('tools/dist_train_ft_4gpu.sh', (FINETUNE, 'a.pth')),
        ('tools/dist_train_ft_8gpu.sh', (FINETUNE, 'a.pth')),
        ('tools/visualizations/dist_vis_loss.sh', (FINETUNE, '2', 'a.pth')),
        ('det_mmdetection/mim_dist_train.sh', ('config.py', 'none', '2')),
        ('det_mmdetection/mim_dist_train_c4.sh', ('config.py', 'none', '2')),
        ('seg_mmsegmentation/mim_dist_test.sh', ('config.py', 'a.pth', '2')),
    ],
)
def test_one_machine_takes_a_free_port(tmp_path, started, script, args, variables, port):
    result = bash(tmp_path, f'../{script}', *args, **started, **variables)
    assert f'--master_port={port}' in result.stdout.split()


@pytest.mark.parametrize('port', ['0', 'abc', '70000', '-1'])
def test_a_port_is_a_number(tmp_path, started, port):
    result = bash(tmp_path, 'dist_train.sh', PRETRAIN, '2', PORT=port, **started)
    assert result.returncode == 2
    assert result.stderr.startswith(f'error: PORT={port};')


def test_processes_share_the_cores(tmp_path, started):
    cores = len(os.sched_getaffinity(0))
    empty = dict(OMP_NUM_THREADS='', MKL_NUM_THREADS='')
    one = bash(tmp_path, 'dist_train.sh', PRETRAIN, '1', **empty, **started)
    many = bash(tmp_path, 'dist_train.sh', PRETRAIN, str(4 * cores), **empty, **started)
    own = bash(tmp_path, 'dist_train.sh', PRETRAIN, '1', **started, OMP_NUM_THREADS='3')
    assert one.stdout.split()[:2] == [str(cores)] * 2
    assert many.stdout.split()[:2] == ['1', '1']
    assert own.stdout.split()[0] == '3'


@pytest.mark.parametrize(
    'script, args',
    [
        ('dist_train.sh', ['config.py']),
        ('dist_test.sh', ['config.py', '2']),
        ('dist_train_ft_4gpu.sh', ['config.py']),
        ('dist_train_ft_8gpu.sh', []),
        ('slurm_train.sh', ['partition', 'job', 'config.py']),
    ],
)
def test_a_missing_argument_shows_the_usage_and_fails(tmp_path, script, args):
    result = bash(tmp_path, script, *args)
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash tools/{script}')


def test_a_number_of_processes_is_a_number(tmp_path):
    result = bash(tmp_path, 'dist_train.sh', 'config.py', '--amp')
    assert result.returncode == 2
    assert "'--amp'; give a whole number" in result.stderr


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.mark.integration
def test_two_processes_on_the_cpu_train_as_one(tmp_path, monkeypatch):
    write_images(tmp_path / 'data/train', 4)
    write_images(tmp_path / 'data/val', 2)
    (tmp_path / 'configs').mkdir()
    toy_config(tmp_path / 'data', train_cfg__max_epochs=1).dump(tmp_path / 'configs/toy.py')
    monkeypatch.chdir(tmp_path)
    load_tool('train').main(['configs/toy.py', '--work-dir', 'one'])
    threads = dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    two = bash(tmp_path, 'dist_train.sh', 'configs/toy.py', '2', PORT=free_port(), **threads)
    assert two.returncode == 0, two.stderr
    assert 'global batch 4 = 2 × 2 × 1' in two.stderr + two.stdout
    assert 'Warning' not in two.stderr + two.stdout
    losses = [
        [line['loss'] for line in read_scalars(tmp_path / name) if 'loss' in line]
        for name in ('one', 'work_dirs/toy')
    ]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    weights = [
        torch.load(tmp_path / name / 'latest.pth', weights_only=False)['state_dict']
        for name in ('one', 'work_dirs/toy')
    ]
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.integration
def test_one_of_two_processes_probes_features_and_the_other_waits(tmp_path, monkeypatch):
    write_images(tmp_path / 'train', 4)
    write_images(tmp_path / 'val', 2)
    splits = {
        split: dict(
            type='ImageDataset',
            source=dict(type='ImageFolder', root=str(tmp_path / part), with_labels=True),
            pipeline=[],
        )
        for split, part in (('train', 'train'), ('test', 'val'))
    }
    hook = dict(type='FeatureProbeHook', interval=1, neighbours=3, linear=True, **splits)
    cfg = toy_config(tmp_path, train_cfg__max_epochs=1)
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(name)
    cfg.dump(tmp_path / 'plain.py')
    cfg.custom_hooks = [hook]
    cfg.dump(tmp_path / 'probed.py')
    monkeypatch.chdir(tmp_path)
    load_tool('train').main(['plain.py', '--work-dir', 'plain'])
    threads = dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    done = bash(tmp_path, 'dist_train.sh', 'probed.py', '2', PORT=free_port(), **threads)
    assert done.returncode == 0, done.stderr
    assert 'Warning' not in done.stderr + done.stdout
    lines = read_scalars(tmp_path / 'work_dirs/probed')
    measured = [line for line in lines if 'probe/knn_top1' in line]
    assert [line['step'] for line in measured] == [0, 1]
    assert all('probe/linear_top1' in line for line in measured)
    alone = [line['loss'] for line in read_scalars(tmp_path / 'plain') if 'loss' in line]
    assert len(alone) == 3
    assert [line['loss'] for line in lines if 'loss' in line] == pytest.approx(alone, abs=1e-4)


@pytest.mark.integration
def test_two_processes_count_every_class_once(tmp_path):
    write_images(tmp_path / 'val', 3)  # nine images: the last step is filled up
    cfg = toy_config(tmp_path)
    cfg.dump(tmp_path / 'toy.py')
    with DefaultScope.overwrite_default_scope('a2mim'):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'toy.pth')
    threads = dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), PORT=free_port())
    options = ['--per-class', '--out', 'out.json']
    done = bash(tmp_path, 'dist_test.sh', 'toy.py', '2', 'toy.pth', *options, **threads)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'out.json').read_text())
    assert {entry['name']: entry['images'] for entry in found['per_class']} == dict.fromkeys(
        ('red', 'green', 'blue'), 3
    )
    assert done.stdout.count('most taken for') == 1


@pytest.mark.integration
def test_bad_input_to_two_processes_is_one_line(tmp_path):
    result = bash(tmp_path, 'dist_train.sh', 'gone.py', '2', PORT=free_port())
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert [line for line in lines if 'gone.py' in line] == lines[-1:]
    assert 'Traceback' not in result.stderr
