"""The machine: Python, processor, memory that workers share, disk and GPUs."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from a2mim.doctor.finding import Finding, Verdict

PYTHON = ((3, 10), (3, 14))  # the first version that works, and the first that does not
SHARED_MEMORY = '/dev/shm'
GIB = 2**30


def check_machine() -> Iterator[Finding]:
    """Everything but the GPUs."""
    first, end = PYTHON
    found = f'{platform.python_version()} on {platform.system()} {platform.machine()}'
    if first <= sys.version_info[:2] < end:
        yield Finding('machine', 'Python', found, needed=True)
    else:
        remedy = 'use Python 3.10 to 3.13'
        yield Finding('machine', 'Python', found, Verdict.PROBLEM, remedy, needed=True)
    yield check_cores()
    yield check_shared_memory()
    free = shutil.disk_usage('.').free
    found = f'{free / GIB:.1f} GiB free in {Path.cwd()}'
    if free < GIB:
        remedy = 'make room, or train with --work-dir elsewhere'
        yield Finding('machine', 'disk', found, Verdict.PROBLEM, remedy)
    else:
        yield Finding('machine', 'disk', found)


def check_cores() -> Finding:
    """Cores that this process may use, and the threads that it was told to use."""
    fixed = hasattr(os, 'sched_getaffinity')
    cores = len(os.sched_getaffinity(0)) if fixed else os.cpu_count()
    threads = os.environ.get('OMP_NUM_THREADS', 'not set')
    return Finding('machine', 'processor', f'{cores} cores, OMP_NUM_THREADS {threads}')


def check_shared_memory() -> Finding:
    """Room for the batches of data workers; containers often have 64 MB."""
    if not os.path.isdir(SHARED_MEMORY):
        return Finding('machine', 'shared memory', f'no {SHARED_MEMORY} on this system')
    total = shutil.disk_usage(SHARED_MEMORY).total
    found = f'{total / GIB:.2f} GiB in {SHARED_MEMORY}'
    if total < GIB:
        remedy = 'docker run --shm-size=16g, or few data workers; a run says what it needs'
        return Finding('machine', 'shared memory', found, Verdict.PROBLEM, remedy)
    return Finding('machine', 'shared memory', found)


def check_gpus() -> Iterator[Finding]:
    """CUDA as torch sees it; a machine without a GPU trains on the processor."""
    import torch

    built = torch.version.cuda
    if not torch.cuda.is_available():
        if built and Path('/dev/nvidiactl').exists():
            found = f'torch {torch.__version__} was built for CUDA {built} and finds no GPU'
            remedy = 'the driver is too old for that CUDA, or CUDA_VISIBLE_DEVICES hides the GPUs'
            yield Finding('GPU', 'CUDA', found, Verdict.PROBLEM, remedy)
        else:
            yield Finding('GPU', 'CUDA', 'no GPU: training runs on the processor', Verdict.MISSING)
        return
    driver = torch._C._cuda_getDriverVersion()
    nccl = '.'.join(map(str, torch.cuda.nccl.version()))
    found = (
        f'CUDA {built}, driver up to {driver // 1000}.{driver % 1000 // 10}, '
        f'cuDNN {torch.backends.cudnn.version()}, NCCL {nccl}'
    )
    yield Finding('GPU', 'CUDA', found)
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            half = 'bfloat16' if torch.cuda.is_bf16_supported(False) else 'no bfloat16'
        found = f'{device.name}, {device.total_memory / GIB:.0f} GiB, {half}'
        yield Finding('GPU', f'cuda:{index}', found)
