"""Room on the disk for the checkpoints of a run."""

import copy
import shutil
from collections import defaultdict
from collections.abc import Iterable

import torch
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

# The newest one, the one that is being written beside it, and the best one.
CHECKPOINTS = 3


def check_disk(runner: Runner) -> str:
    """Free space where checkpoints go, and what three of them take.

    Raises:
        ValueError: If there is not enough.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    if not hooks:
        return 'disk: the run writes no checkpoints'
    folder = hooks[0].out_dir or runner.work_dir
    size = checkpoint_bytes(runner)
    free, needed = shutil.disk_usage(folder).free, CHECKPOINTS * size
    found = (
        f'{readable(free)} free for {folder}, {readable(needed)} needed for {CHECKPOINTS} '
        f'checkpoints of {readable(size)}'
    )
    if free < needed:
        raise ValueError(f'disk: {found}; make room or give another --work-dir')
    return f'disk: {found}'


def checkpoint_bytes(runner: Runner) -> int:
    """Size of a checkpoint: weights, what the optimiser keeps of each, and their average."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    weights = num_bytes(model.state_dict().values())
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return (
        weights
        + optimizer_bytes(runner.optim_wrapper.optimizer)
        + sum(num_bytes(average.state_dict().values()) for average in averages)
    )


def optimizer_bytes(optimizer: Optimizer) -> int:
    """What ``optimizer`` will keep beside the parameters, found by a step on a small one."""
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    # Its own parameter and state, with the settings of the first group.
    twin = copy.copy(optimizer)
    small = nn.Parameter(torch.zeros(8, 8, device=parameters[0].device))
    small.grad = torch.ones_like(small)
    twin.state = defaultdict(dict)
    twin.param_groups = [{**optimizer.param_groups[0], 'params': [small]}]
    # Not the method of the instance: a scheduler has replaced it by one that counts.
    type(optimizer).step(twin)
    share = num_bytes(twin.state[small].values()) / num_bytes([small])
    return round(share * num_bytes(parameters))


def num_bytes(values: Iterable[object]) -> int:
    """Bytes of the tensors among ``values``, over all processes where they are sharded."""
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))


def readable(size: float) -> str:
    """A number of bytes in MiB or GiB."""
    return f'{size / 2**30:.1f} GiB' if size >= 2**30 else f'{size / 2**20:.1f} MiB'
