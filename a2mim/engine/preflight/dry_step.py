"""One real batch through forward and backward pass, without a step of the optimiser."""

import time
from collections.abc import Sequence

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from a2mim.engine.preflight.batches import example_batch
from a2mim.engine.preflight.disk import optimizer_bytes, readable


def dry_step(runner: Runner) -> str:
    """What a step gives: its losses, and which parameters get a gradient.

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
        kept = optimizer_bytes(runner.optim_wrapper.optimizer)
        found.append(
            f'peak memory {readable(torch.cuda.max_memory_allocated())} of {readable(total)}, and '
            f'the optimiser keeps {readable(kept)} from its first step on'
        )
    return '; '.join([*found, f'{time.perf_counter() - started:.1f} s'])


def losses_and_gradients(
    runner: Runner, batch: dict
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Losses by term, and by its name the gradient of every parameter that is trained."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model.train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.compiler.set_stance('force_eager'):
        with runner.optim_wrapper.optim_context(model):
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
    """Refuse to start where the first step would give numbers that are none."""
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
    """Refuse parameters that DDP would wait for."""
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
    """The part of a gradient that is in this process."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def abridged(names: Sequence[str]) -> str:
    """The first few names."""
    return ', '.join(names[:3]) + (', …' if len(names) > 3 else '')
