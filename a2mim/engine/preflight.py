"""The checks before training, one line of the log each."""

import copy
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from a2mim.engine.checkpointing import checkpoint_folder, find_saver
from a2mim.engine.loops import batch_size
from a2mim.engine.pixel_scale import check_pixels
from a2mim.engine.processes import LOCAL, bare_model
from a2mim.registry import HOOKS

# The newest checkpoint, the one being written, and the best one.
CHECKPOINTS = 3


def check_disk(runner: Runner) -> str:
    """Compare the free disk space with the size of three checkpoints.

    Raises:
        ValueError: If there is not enough.
    """
    saver = find_saver(runner)
    if saver is None:
        return 'disk: the run writes no checkpoints'
    folder = checkpoint_folder(saver.out_dir, runner.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
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
    """Estimated size of a checkpoint: weights, optimiser state and averaged weights."""
    model = bare_model(runner.model)
    weights = num_bytes(model.state_dict().values())
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return (
        weights
        + optimizer_bytes(cast(OptimWrapper, runner.optim_wrapper).optimizer)
        + sum(num_bytes(average.state_dict().values()) for average in averages)
    )


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Estimated size of the optimiser state, measured by one step on a small parameter."""
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
    """Format a number of bytes in MiB or GiB."""
    return f'{size / 2**30:.1f} GiB' if size >= 2**30 else f'{size / 2**20:.1f} MiB'


def check_batches(runner: Runner) -> str:
    """Check the number of batches per process and epoch.

    Raises:
        ValueError: If it gets none, or there are fewer images than processes, so that some would
            see copies only.
    """
    loader, processes = runner.train_dataloader, get_world_size()
    images = len(cast(Sized, loader.dataset))
    split = f'{images} images, {processes} process(es) with {batch_size(loader)} each'
    if images < processes or len(loader) == 0:
        raise ValueError(
            f'{split} make no step; give more images, a smaller train_dataloader.batch_size or '
            'fewer processes'
        )
    return f'batches: {split} make {len(loader)} iterations, at least 1 needed'


def example_batch(loader: DataLoader, size: int | None = None) -> dict:
    """Load a batch of evenly spaced images without using the sampler or the workers.

    Args:
        loader: What loads the images in training.
        size: Number of images; None for a full batch, or all images where there are fewer.
    """
    last = len(cast(Sized, loader.dataset)) - 1
    places = np.linspace(0, last, min(size or batch_size(loader), last + 1), dtype=int)
    return cast(dict, loader.collate_fn([loader.dataset[int(place)] for place in places]))


def dry_step(runner: Runner) -> str:
    """Run one training step: its losses, and which parameters get a gradient.

    It runs uncompiled, under the autocast of the run, and past DDP, which would remember it.

    Raises:
        ValueError: If a step fails, a loss or a gradient is not finite, or DDP would wait for a
            gradient that never comes.
    """
    started = time.perf_counter()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    batch = example_batch(runner.train_dataloader)
    shapes = ', '.join(f'{k} {tuple(v.shape)}' for k, v in batch.items() if isinstance(v, Tensor))
    try:
        losses, gradients = losses_and_gradients(runner, batch)
    except RuntimeError as error:  # shapes that do not fit, memory that does not suffice
        raise ValueError(f'dry step: a batch with {shapes} fails: {error}') from error
    check_finite(losses, gradients)
    unused = [name for name, gradient in gradients.items() if gradient is None]
    check_unused(runner.model, unused)
    terms = ', '.join(f'{name} {value:.4g}' for name, value in losses.items())
    found = [f'dry step: {shapes} give {terms}', f'{len(gradients)} gradients, all finite']
    if unused:
        found.append(f'{len(unused)} parameters without one ({abridged(unused)})')
    if on_gpu:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        kept = optimizer_bytes(cast(OptimWrapper, runner.optim_wrapper).optimizer)
        found.append(
            f'peak memory {readable(torch.cuda.max_memory_allocated())} of {readable(total)}, and '
            f'the optimiser keeps {readable(kept)} from its first step on'
        )
    return '; '.join([*found, f'{time.perf_counter() - started:.1f} s'])


def losses_and_gradients(
    runner: Runner, batch: dict
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Loss terms, and the gradient of every trained parameter by name."""
    model = bare_model(runner.model)
    model.train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.compiler.set_stance('force_eager'):
        with cast(OptimWrapper, runner.optim_wrapper).optim_context(model):
            data = model.data_preprocessor(batch, True)
            loss, terms = model.parse_losses(model(**data, mode='loss'))
        losses = {name: term.detach() for name, term in terms.items()}
        if isinstance(model, FSDPModule):
            # Its hooks collect gradients in ``grad``.
            loss.backward()
            return losses, {name: parameter.grad for name, parameter in trained.items()}
        # Past the accumulation of gradients, and with it past the hooks of DDP.
        gradients = torch.autograd.grad(loss, [*trained.values()], allow_unused=True)
        return losses, dict(zip(trained, gradients, strict=True))


def check_finite(losses: dict[str, Tensor], gradients: dict[str, Tensor | None]) -> None:
    """Raise if the first step gives NaN or Inf."""
    present = {name: local(value) for name, value in gradients.items() if value is not None}
    values = [*losses.values(), *present.values()]
    # One wait for the device, however many there are.
    finite = torch.stack([value.isfinite().all() for value in values]).tolist()
    broken = [name for name, fine in zip([*losses, *present], finite, strict=True) if not fine]
    if broken:
        raise ValueError(
            f'dry step: not finite from the first step on: {abridged(broken)}; look at the '
            'weights it starts from, the images, and mixed precision'
        )


def check_unused(model: nn.Module, unused: Sequence[str]) -> None:
    """Raise if parameters get no gradient: DDP would wait for them."""
    waits = isinstance(model, DistributedDataParallel) and not (
        model.find_unused_parameters or model.static_graph
    )
    if waits and unused:
        raise ValueError(
            f'dry step: {len(unused)} parameters get no gradient ({abridged(unused)}), and '
            'processes that train together would wait for it; freeze them, or set '
            'find_unused_parameters=True'
        )


def local(tensor: Tensor) -> Tensor:
    """The local shard of a gradient."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def abridged(names: Sequence[str]) -> str:
    """The first few names."""
    return ', '.join(names[:3]) + (', …' if len(names) > 3 else '')


FOLDER = '/dev/shm'


def check_shared_memory(runner: Runner) -> str:
    """Compare the free shared memory with the size of all prefetched batches.

    Raises:
        ValueError: If there is not enough: workers would die with a bus error in mid-run.
    """
    loop = runner.val_loop
    loops = [loop, *getattr(loop, 'others', {}).values()] if loop is not None else []
    loaders = [runner.train_dataloader] + [loop.dataloader for loop in loops]
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
    """Bytes of the batches that the workers of ``loader`` prefetch, plus the one in use."""
    if loader.num_workers == 0:
        return 0
    image = num_bytes(values_of(example_batch(loader, size=1)))
    batches = loader.num_workers * (loader.prefetch_factor or 0) + 1
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
    return next((int(os.environ[name]) for name in LOCAL if name in os.environ), 1)


def branch_scales(model: nn.Module, largest: float = 0.0) -> dict[str, nn.Parameter]:
    """Trained scales of residual branches that are zero: a branch that does nothing yet.

    These are the weights of norms and layer scales, one number a channel.

    Args:
        model: Any network.
        largest: Size up to which a scale counts; layer scales start at 1e-6.
    """
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 1
        and parameter.requires_grad
        and not name.endswith('bias')
        and not any(part in NO_BRANCHES for part in name.split('.'))
        and parameter.detach().abs().max() <= largest
    }


NO_BRANCHES = ('grn', 'mask_token')  # the former stands in a residual connection of its own
# Optimiser steps. By tools/development/residual_branches.py on a ResNet-10 at a learning rate of
# 1e-3, pre-training of 1000 steps ends at a loss 16 % above that with open branches, and one of
# 300 steps 24 % above: the number is three times the largest that was measured.
OPENING = 3000


def warn_of_closed_branches(runner: Runner) -> None:
    """Warn where residual branches start at zero, and the run has too few steps to open them."""
    closed = branch_scales(bare_model(runner.model))
    steps = runner.max_iters // runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    if closed and steps < OPENING:
        runner.logger.warning(
            f'preflight: branches: {len(closed)} residual branches start at zero '
            f'({abridged([*closed])}), and {steps} steps, less than {OPENING}, are few to open '
            'them (1000 were not enough for a ResNet-10); set '
            'model.backbone.zero_init_last=False in all compared runs'
        )


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Context manager that restores buffers, gradients, modes and RNG state on exit.

    These are the buffers (running statistics), the mode of every module, the gradients and the
    random states of Python, numpy and torch. The block begins without gradients. Parameters are
    not copied.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None  # a pass would add to it in place
    python, numpy = random.getstate(), np.random.get_state()
    device = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(device):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient


# Cheapest first; a check returns what it found, and raises a ValueError where that is not enough.
CHECKS = (check_disk, check_batches, check_shared_memory, check_pixels, dry_step)


@HOOKS.register_module()
class PreflightHook(Hook):
    """Check disk, batches and shared memory and try one step, before any work can be lost.

    It runs when weights and optimiser are as training will meet them, in a resumed run too, and
    leaves no trace: the run is bit for bit the one that was not checked. ``tools/train.py``
    registers it unless ``--no-preflight`` is given.
    """

    priority = 'HIGH'

    def before_train(self, runner: Runner) -> None:
        """Run the checks in every process.

        Raises:
            ValueError: If something is missing or does not work.
        """
        with undisturbed(runner.model):
            for check in CHECKS:
                runner.logger.info(f'preflight: {check(runner)}')
        warn_of_closed_branches(runner)
