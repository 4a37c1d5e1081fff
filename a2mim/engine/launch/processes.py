"""How this process was started: alone, or as one of several by a launcher."""

import gc
import os

import torch
from mmengine import Config
from torch import distributed

from a2mim.engine.compat.cpu_processes import start_gloo_process
from a2mim.engine.launch.data_root import LOADERS

# What each launcher tells its processes: their number, their place on this machine, and among all.
VARIABLES = {
    'pytorch': ('WORLD_SIZE', 'LOCAL_RANK', 'RANK'),
    'slurm': ('SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_PROCID'),
    'mpi': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK'),
}
LAUNCHERS = ('none', *VARIABLES)


def count_processes(launcher: str) -> int:
    """Number of processes that ``launcher`` started.

    Raises:
        ValueError: If the environment contradicts the launcher.
    """
    if launcher == 'none':
        started = int(os.environ.get('WORLD_SIZE', 1))
        if started > 1:
            raise ValueError(
                f'torchrun started {started} processes, but --launcher is none: each would train '
                'by itself; pass --launcher pytorch or use tools/dist_train.sh'
            )
        return 1
    variable = VARIABLES[launcher][0]
    if variable not in os.environ:
        raise ValueError(
            f'--launcher {launcher} needs the variable {variable}, which its launcher sets; '
            'use tools/dist_train.sh (torchrun) or tools/slurm_train.sh, or leave it out'
        )
    return int(os.environ[variable])


def is_first_process(launcher: str) -> bool:
    """Whether this is the process, of those on all machines, that writes files."""
    return launcher == 'none' or int(os.environ.get(VARIABLES[launcher][2], 0)) == 0


def fit_workers(cfg: Config, processes: int) -> str | None:
    """On a CPU, leave at least one core per process to training; return a line for the log.

    Published recipes ask for ten or more data workers beside every GPU. Where the config has
    ``num_workers=0``, options of workers go, which torch would refuse.
    """
    loaders = [cfg[name] for name in LOADERS if cfg.get(name)]
    for loader in loaders:
        if loader.get('num_workers') == 0:
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
    if torch.cuda.is_available():
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    most = max(1, cores // processes)
    crowded = [loader for loader in loaders if loader.get('num_workers', 0) > most]
    for loader in crowded:
        loader.num_workers = most
    return f'{most} data workers per process, since there are {cores} cores' if crowded else None


def join_processes(cfg: Config, launcher: str) -> None:
    """Prepare ``cfg`` for this machine, and start gloo where there is no GPU.

    ``sync_bn`` needs several GPUs; with one process or on the CPU batch norm stays as it is.

    Raises:
        ValueError: If this process has no GPU of its own, or a launcher needs one.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        cfg.sync_bn = None
        return
    gpus, place = torch.cuda.device_count(), int(os.environ.get(VARIABLES[launcher][1], 0))
    os.environ['LOCAL_RANK'] = str(place)  # mmengine reads it whatever the launcher
    if gpus == 0 and launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs; on a CPU use tools/dist_train.sh')
    if gpus == 0:
        start_gloo_process(cfg)
    elif place >= gpus:
        raise ValueError(
            f'process {place + 1} on this machine has no GPU: {gpus} are visible; start at most '
            f'{gpus} processes here'
        )


def leave_processes() -> None:
    """End the group of processes, if there is one, and its threads with it.

    The caller holds no runner any more. A wrapped model keeps its group alive, and a thread of gloo
    that is still letting go of its last message while the interpreter ends aborts the process,
    about once in ten runs.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()
