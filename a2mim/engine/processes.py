"""The processes of a run: how they were started, and the lock that keeps a second run out.

A process runs alone or as one of several that a launcher starts. On a machine without GPU several
processes communicate by gloo. The work dir is locked by ``flock``, which the kernel releases at any
end of the process, SIGKILL and power cut included, so that no stale lock remains. ``flock`` holds
on local disks, and between machines on NFS from Linux 2.6.12 on and on Lustre mounted with
``flock``; a file system without locks is not protected, and the log says so. ``filelock`` is no
replacement: its versions take the answer of a file system without locks for a lock that is held, or
fall back to a marker file, which a killed process leaves behind.
"""

import errno
import fcntl
import gc
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TextIO, cast

import torch
from mmengine import Config
from mmengine.model import BaseModel, is_model_wrapper
from torch import distributed, nn
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from a2mim.engine.config_edit import LOADERS
from a2mim.engine.validation import other_loaders
from a2mim.options import VARIABLES, usable_cores
from a2mim.weights.files import open_own

# The number of processes on this machine, by the launchers of ``VARIABLES``.
LOCAL = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'OMPI_COMM_WORLD_LOCAL_SIZE')
PATIENCE_FOR_RANKS = 900  # seconds: longer than for data, so that a missing worker is named
ROLL_CALL = 5  # seconds


def count_processes(launcher: str) -> int:
    """World size: the number of processes that ``launcher`` started.

    Raises:
        ValueError: If the environment contradicts the launcher.
    """
    number_in('LOCAL_RANK', 0)  # mmengine's log reads it whatever the launcher
    if launcher == 'none':
        started = number_in('WORLD_SIZE', 1)
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
    return number_in(variable, 1)


def number_in(variable: str, smallest: int) -> int:
    """The number that a launcher has put into the environment, by default the smallest one.

    Raises:
        ValueError: If it is no number, or below ``smallest``.
    """
    text = os.environ.get(variable, str(smallest))
    if not text.isdecimal() or int(text) < smallest:
        raise ValueError(
            f'the environment has {variable}={text!r}, no number from {smallest} on; the launcher '
            'sets it: unset it, or start with tools/dist_train.sh'
        )
    return int(text)


def is_first_process(launcher: str) -> bool:
    """Whether this is the process, of those on all machines, that writes files."""
    return launcher == 'none' or number_in(VARIABLES[launcher][2], 0) == 0


def fit_workers(cfg: Config, processes: int, options: Collection[str] = ()) -> str | None:
    """Leave at least one core per process to training; return a line for the log.

    Published recipes ask for ten or more data workers beside every GPU. A number among the options
    of the command line is kept: workers that wait for a slow storage need no core. Where the config
    has ``num_workers=0``, options of workers go, which torch would refuse.

    Args:
        cfg: Edited.
        processes: World size.
        options: Names of the settings on the command line.
    """
    named = {name: cfg[name] for name in LOADERS if cfg.get(name)}
    loaders = [*named.values(), *other_loaders(cfg)]
    for loader in loaders:
        if loader.get('num_workers') == 0:
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
            loader.pop('timeout', None)
    chosen = [id(named[name]) for name in named if f'{name}.num_workers' in options]
    most = cores_per_process(processes)
    crowded = [
        loader
        for loader in loaders
        if loader.get('num_workers', 0) > most and id(loader) not in chosen
    ]
    if not crowded:
        return None
    asked = max(loader.num_workers for loader in crowded)
    for loader in crowded:
        loader.num_workers = most
    return (
        f'{most} data workers per process in place of {asked}, since it has {most} cores; '
        '--cfg-options train_dataloader.num_workers=N sets any number'
    )


def cores_per_process(processes: int) -> int:
    """Cores of this machine for each of its processes, at least 1.

    torchrun's processes share all cores; Slurm and MPI may bind each process to its own ones.
    """
    machine, cores = os.cpu_count() or 1, usable_cores()
    here = [int(os.environ[name]) for name in LOCAL if os.environ.get(name, '').isdecimal()]
    if 'LOCAL_WORLD_SIZE' not in os.environ and processes > 1 and cores < machine:
        return cores
    return max(1, cores // max(1, min([*here[:1], processes])))


DDP = 'MMDistributedDataParallel'
# As ``sync_bn``: torch's own layer, in place of the one of this package.
NATIVE_SYNC_BN = 'torch_native'


def bare_model(model: nn.Module) -> BaseModel:
    """``model`` outside of the wrapper (DDP) that several processes put around it."""
    return cast(BaseModel, model.module if is_model_wrapper(model) else model)


def join_processes(cfg: Config, launcher: str) -> None:
    """Prepare ``cfg`` for this machine, and start gloo where there is no GPU.

    ``sync_bn`` needs several processes; in one process batch norm stays as it is.

    Raises:
        ValueError: If this process has no GPU of its own, or a launcher needs one.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        cfg.sync_bn = None
        return
    end_with_launcher()
    gpus, local_rank = torch.cuda.device_count(), number_in(VARIABLES[launcher][1], 0)
    os.environ['LOCAL_RANK'] = str(local_rank)  # mmengine reads it whatever the launcher
    if gpus == 0 and launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs; on a CPU use tools/dist_train.sh')
    if gpus == 0:
        start_gloo_process(cfg)
    elif local_rank >= gpus:
        raise ValueError(
            f'process {local_rank + 1} on this machine has no GPU: {gpus} are visible; start at '
            f'most {gpus} processes here'
        )


def start_gloo_process(cfg: Config) -> None:
    """Join the process group that torchrun announced, and fit ``cfg`` to a CPU.

    mmengine 0.10 calls ``torch.cuda.set_device`` for every launcher and backend, and gives DDP the
    local rank as the device; but it uses a process group that exists already, and a
    ``model_wrapper_cfg`` replaces the device ids. ``env_cfg.dist_cfg.timeout`` is mmengine's entry:
    seconds for which a process waits for the others.

    Raises:
        ValueError: If ``sync_bn`` asks for torch's own layer, which runs on GPUs only.
    """
    if cfg.get('sync_bn') == NATIVE_SYNC_BN:
        raise ValueError(
            f"sync_bn='{NATIVE_SYNC_BN}' needs GPUs; on a CPU use sync_bn='torch', which gives the "
            'same statistics'
        )
    dist_cfg = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    timeout = timedelta(seconds=dist_cfg.get('timeout', PATIENCE_FOR_RANKS))
    distributed.init_process_group('gloo', timeout=timeout)
    wrapper = dict(
        type=DDP,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    given = cfg.get('model_wrapper_cfg', {})
    if given.get('type', wrapper['type']) == wrapper['type']:
        cfg.model_wrapper_cfg = {**wrapper, **given, 'device_ids': None}


# In gloo's messages, not all of which name it.
LOST = ('gloo', 'pair closure', 'closed by peer')


def is_connection_lost(error: RuntimeError) -> bool:
    """Whether gloo says by ``error`` that another process has ended or does not answer."""
    return distributed.is_initialized() and any(words in str(error) for words in LOST)


def absent_ranks() -> set[int]:
    """Ask all processes through the store of the launcher; those that do not answer.

    All that are alive have lost the connection at about the same time, and are asking too.
    """
    absent = {*range(distributed.get_world_size())} - {distributed.get_rank()}
    # A store that a stopped process keeps never answers, whatever its timeout.
    asking = threading.Thread(target=_call_roll, args=(absent,), daemon=True)
    asking.start()
    asking.join(2 * ROLL_CALL)
    return {*absent}


def _call_roll(absent: set[int]) -> None:
    """Say that this process is here, and take those that do so, too, out of ``absent``."""
    address = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    deadline = time.monotonic() + ROLL_CALL
    with suppress(RuntimeError, OSError):  # the launcher is gone, and its store
        store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=ROLL_CALL))
        store.set(f'a2mim/present/{distributed.get_rank()}', '')
        while absent and time.monotonic() < deadline:
            for rank in [*absent]:
                if store.check([f'a2mim/present/{rank}']):
                    absent.discard(rank)
            time.sleep(INTERVAL)


def end_with_launcher() -> None:
    """Send this process SIGTERM once its launcher is gone, so that it saves and leaves.

    A thread looks for a new parent once a second: it works on every system, where
    ``prctl(PR_SET_PDEATHSIG)`` is Linux's.
    """
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def leave_processes() -> None:
    """End the process group, if there is one, and its threads with it.

    The caller has released its runner: a wrapped model keeps the group alive, and a gloo thread
    that still sends its last message while the interpreter ends aborts the process, about once in
    ten runs.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()


NAME = '.lock'
OWNER = re.compile(r'host .*, process \d+, since ')
# A job that was told to end may still be writing its last checkpoint when its successor starts.
PATIENCE = 10.0  # seconds
REMEDY = 'wait for its end or stop it, or give this run another --work-dir'
INTERVAL = 0.2  # seconds from one try to the next
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class WorkDirLock:
    """Locks that a run takes once it knows its folders, and gives back when the block ends.

    The first process of a run holds it for all of them.

    Args:
        patience: Seconds to wait for a run that is about to end.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._files: list[TextIO] = []

    def __enter__(self) -> 'WorkDirLock':
        return self

    def __exit__(self, *error: object) -> None:
        while self._files:
            with self._files.pop() as file:
                file.truncate(0)

    def take(self, work_dir: str) -> str | None:
        """Create ``work_dir`` and lock it; return a line for the log if it cannot be locked.

        Raises:
            ValueError: If another run holds the lock, with what it says about itself.
            OSError: If nothing can be written there.
        """
        path = Path(work_dir, NAME)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(open_own(path), 'r+', encoding='utf-8', errors='replace')
        except OSError as error:
            raise OSError(
                f'the work dir {work_dir} cannot be written ({error.strerror}); give another '
                '--work-dir'
            ) from error
        self._refuse_other_content(file, path)
        self._files.append(file)
        if not self._wait(file, work_dir):
            return f'{work_dir}: its file system has no locks; start one run there at a time'
        owner = f'host {socket.gethostname()}, process {os.getpid()}, since {now()}\n'
        try:
            file.seek(0)
            file.truncate(0)
            file.write(owner)
            file.flush()
        except OSError as error:
            self._files.remove(file)
            with suppress(OSError):  # it flushes once more
                file.close()
            raise OSError(
                f'{path} cannot be written: {error.strerror} ({len(owner)} bytes needed, '
                f'{shutil.disk_usage(path.parent).free:,} are free); make room or give another '
                '--work-dir'
            ) from error
        return None

    def _wait(self, file: TextIO, work_dir: str) -> bool:
        """Try until the lock is ours; False where there is none to have."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno in UNKNOWN:
                    return False
                if error.errno not in TAKEN:
                    raise
            if time.monotonic() > deadline:
                raise ValueError(
                    f'another run trains in {work_dir} ({self._owner(file)}); {REMEDY}'
                )
            time.sleep(INTERVAL)

    def _refuse_other_content(self, file: TextIO, path: Path) -> None:
        """Leave a file alone that no run has written.

        Raises:
            ValueError: If it is one.
        """
        found = file.read(200)
        if found and not OWNER.match(found):
            file.close()
            raise ValueError(
                f'{path} is not the lock of a run ({found[:40]!r}): rename it, or give this run '
                'another --work-dir'
            )

    def _owner(self, file: TextIO) -> str:
        """What the holder wrote; the file is closed, since it is not ours."""
        self._files.remove(file)
        with file:
            file.seek(0)
            owner = file.read().strip()
        return owner or 'it has just started'


def now() -> str:
    """Date and time of this machine."""
    return time.strftime('%Y-%m-%d %H:%M:%S')
