"""How a process was started, and what the machine allows."""

import pytest
import torch
from mmengine import Config

from a2mim.engine import processes
from a2mim.engine.processes import (
    LOCAL,
    count_processes,
    fit_workers,
    is_first_process,
    join_processes,
)


@pytest.fixture(autouse=True)
def alone(monkeypatch) -> None:
    for variable in ('WORLD_SIZE', 'LOCAL_RANK', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', *LOCAL):
        monkeypatch.delenv(variable, raising=False)


def has_gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)


def test_a_plain_start_is_one_process():
    assert count_processes('none') == 1


def test_every_launcher_says_how_many_it_started(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '8')
    monkeypatch.setenv('SLURM_NTASKS', '16')
    assert count_processes('pytorch') == 8
    assert count_processes('slurm') == 16


def test_torchrun_without_the_option_is_refused(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '8')
    with pytest.raises(ValueError, match='--launcher pytorch'):
        count_processes('none')


def test_the_option_without_torchrun_is_refused():
    with pytest.raises(ValueError, match=r'WORLD_SIZE.*tools/dist_train\.sh'):
        count_processes('pytorch')


def test_one_process_keeps_plain_batch_norm():
    cfg = Config(dict(sync_bn='torch'))
    join_processes(cfg, 'none')
    assert cfg.sync_bn is None
    assert cfg.launcher == 'none'


def test_without_gpu_the_process_joins_the_others_by_gloo(monkeypatch):
    joined = []
    has_gpus(monkeypatch, 0)
    monkeypatch.setattr(processes, 'start_gloo_process', joined.append)
    cfg = Config(dict(sync_bn='torch'))
    join_processes(cfg, 'pytorch')
    assert joined == [cfg]


def test_several_gpus_synchronise_batch_norm(monkeypatch):
    has_gpus(monkeypatch, 2)
    monkeypatch.setenv('LOCAL_RANK', '1')
    cfg = Config(dict(sync_bn='torch'))
    join_processes(cfg, 'pytorch')
    assert cfg.sync_bn == 'torch'


def test_more_processes_than_gpus_are_refused(monkeypatch):
    has_gpus(monkeypatch, 2)
    monkeypatch.setenv('LOCAL_RANK', '2')
    with pytest.raises(ValueError, match=r'process 3.*at most 2 processes'):
        join_processes(Config(), 'pytorch')


def test_slurm_without_gpu_is_refused(monkeypatch):
    has_gpus(monkeypatch, 0)
    with pytest.raises(ValueError, match=r'slurm needs GPUs.*dist_train\.sh'):
        join_processes(Config(), 'slurm')


@pytest.mark.parametrize('gpus', [0, 8])
@pytest.mark.parametrize(
    'cores, count, variables, workers',
    [
        (range(4), 1, {}, 4),
        (range(4), 2, {}, 2),
        (range(2), 2, {'LOCAL_WORLD_SIZE': '2'}, 1),
        (range(4), 8, {}, 1),
        (range(16), 1, {}, 10),
        (range(16), 16, {'LOCAL_WORLD_SIZE': '2'}, 8),  # on eight machines
        (range(16), 16, {'SLURM_NTASKS_PER_NODE': '4'}, 4),
        (range(16), 8, {'OMPI_COMM_WORLD_LOCAL_SIZE': '8'}, 2),
        (range(3), 16, {'SLURM_NTASKS_PER_NODE': '4'}, 3),  # a process bound to its own cores
        (range(4), 2, {'LOCAL_WORLD_SIZE': '2', 'SLURM_NTASKS_PER_NODE': '1'}, 2),
        (range(16), 1, {'SLURM_NTASKS_PER_NODE': '4'}, 10),  # started by hand
        (range(8), 1, {'SLURM_NTASKS_PER_NODE': ''}, 8),
    ],
)
def test_data_workers_leave_a_core_to_every_process(
    monkeypatch, gpus, cores, count, variables, workers
):
    has_gpus(monkeypatch, gpus)
    monkeypatch.setattr('os.sched_getaffinity', lambda process: cores)
    bound = variables.get('SLURM_NTASKS_PER_NODE') == '4' and len(cores) == 3
    monkeypatch.setattr('os.cpu_count', lambda: 16 if bound else len(cores))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loaders = dict(
        train_dataloader=dict(num_workers=10),
        val_dataloader=dict(num_workers=0),
        test_dataloader=dict(num_workers=1),
    )
    cfg = Config(loaders)
    note = fit_workers(cfg, count)
    assert cfg.train_dataloader.num_workers == workers
    assert cfg.val_dataloader.num_workers == 0
    assert cfg.test_dataloader.num_workers == 1
    if workers == 10:
        assert note is None
    else:
        assert f'{workers} data workers per process in place of 10' in note
    cfg = Config(loaders)
    fit_workers(cfg, count, ['train_dataloader.num_workers', 'seed'])
    assert cfg.train_dataloader.num_workers == 10


def test_without_workers_their_options_go():
    options = dict(persistent_workers=True, prefetch_factor=4, pin_memory=True)
    cfg = Config(dict(train_dataloader=dict(num_workers=0, **options)))
    fit_workers(cfg, 1)
    assert cfg.train_dataloader == dict(num_workers=0, pin_memory=True)


def test_a_loader_that_is_switched_off_has_no_workers():
    cfg = Config(dict(train_dataloader=dict(num_workers=64), val_dataloader=None))
    fit_workers(cfg, processes=1)
    assert cfg.train_dataloader.num_workers < 64


@pytest.mark.parametrize(
    'launcher, variables, first',
    [
        ('none', {}, True),
        ('pytorch', {'RANK': '0', 'LOCAL_RANK': '0'}, True),
        ('pytorch', {'RANK': '8', 'LOCAL_RANK': '0'}, False),
        ('slurm', {'SLURM_PROCID': '8', 'SLURM_LOCALID': '0'}, False),
        ('mpi', {'OMPI_COMM_WORLD_RANK': '1'}, False),
    ],
)
def test_one_process_of_all_machines_writes_files(monkeypatch, launcher, variables, first):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process(launcher) is first
