"""Room in the shared memory through which data workers hand over their batches."""

import os
import shutil
from collections.abc import Iterable

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from a2mim.engine.preflight.batches import batch_size, example_batch
from a2mim.engine.preflight.disk import num_bytes, readable

FOLDER = '/dev/shm'
# How many processes share this machine's memory, as torchrun and Slurm say it.
LOCAL_PROCESSES = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE')


def check_shared_memory(runner: Runner) -> str:
    """Free shared memory, and what the batches of all workers take that may wait at once.

    Raises:
        ValueError: If there is not enough: workers would die with a bus error in mid-run.
    """
    loop = runner.val_loop
    loaders = [runner.train_dataloader] + ([loop.dataloader] if loop is not None else [])
    workers = sum(loader.num_workers for loader in loaders)
    if workers == 0 or not os.path.isdir(FOLDER):
        return f'shared memory: {workers} data workers need none of {FOLDER}'
    needed = local_processes() * sum(waiting_bytes(loader) for loader in loaders)
    free = shutil.disk_usage(FOLDER).free
    found = f'{readable(free)} free in {FOLDER}, {readable(needed)} needed by the data workers'
    if free < needed:
        raise ValueError(
            f'shared memory: {found}; set train_dataloader.num_workers or prefetch_factor lower, '
            'or give a container more (docker run --shm-size=16g)'
        )
    return f'shared memory: {found}'


def waiting_bytes(loader: DataLoader) -> int:
    """Bytes of all batches that the workers of ``loader`` prepare ahead, and of the one in use."""
    if loader.num_workers == 0:
        return 0
    image = num_bytes(values_of(example_batch(loader, size=1)))
    batches = loader.num_workers * loader.prefetch_factor + 1
    return image * batch_size(loader) * batches


def values_of(batch: object) -> Iterable[object]:
    """Everything inside a batch, however nested."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        for item in batch:
            yield from values_of(item)
    else:
        yield batch


def local_processes() -> int:
    """Number of training processes on this machine."""
    return next((int(os.environ[name]) for name in LOCAL_PROCESSES if name in os.environ), 1)
