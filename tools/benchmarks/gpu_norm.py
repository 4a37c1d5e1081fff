"""The parts of joint batch norm against the formulas in double precision, on one device.

Four processes with batches of different sizes are played by one: their moments and sums are added
by hand, as the collectives do. On a GPU the parts call the kernels of ``nn.SyncBatchNorm``. The
layer as a whole, with its collectives, runs in a group of one process.

Axes: B batch, C channels, (H, W) pixels, R processes.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from a2mim.engine import sync_batch_norm as joint

SIZES = (5, 2, 1, 0)  # images of each process
SHAPE = (24, 14, 14)  # C, H, W
EPS = 1e-5
ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}


LAYOUTS = {
    'contiguous': (torch.contiguous_format, torch.contiguous_format),  # of images and gradient
    'channels last': (torch.channels_last, torch.channels_last),
    'mixed': (torch.channels_last, torch.contiguous_format),
}


def norm_errors(device: str) -> Iterator[dict[str, object]]:
    """Relative errors of each case, and whether they are those of rounding.

    The layer comes last: it alone needs collectives.
    """
    yield from compare('parts', four_processes, device)
    with single_process(device):
        yield from compare('layer', whole_layer, device)


def compare(
    what: str, form: Callable[..., dict[str, Tensor]], device: str
) -> Iterator[dict[str, object]]:
    """The rows of one form, for every type and layout."""
    for dtype, allowed in ALLOWED.items():
        for layout, formats in LAYOUTS.items():
            given = inputs(device, dtype, *formats)
            found, wanted = form(*given), formulas(*given)
            errors = {key: apart(found[key], wanted[key]) for key in wanted}
            largest = max(errors.values())
            case = f'{what}, {str(dtype).removeprefix("torch.")}, {layout}'
            yield dict(case=case, largest=largest, ok=largest < allowed, **errors)


@contextmanager
def single_process(device: str) -> Iterator[None]:
    """A process group of this process alone, by NCCL on a GPU."""
    backend = 'nccl' if device == 'cuda' else 'gloo'
    with tempfile.TemporaryDirectory() as folder:
        store = f'file://{Path(folder, "store")}'
        distributed.init_process_group(backend, init_method=store, rank=0, world_size=1)
        try:
            yield
        finally:
            distributed.destroy_process_group()


def inputs(
    device: str,
    dtype: torch.dtype,
    of_images: torch.memory_format,
    of_gradient: torch.memory_format,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of all processes whose mean is twice their deviation, a gradient, and the affine."""
    torch.manual_seed(0)
    x, dy = (torch.randn(sum(SIZES), *SHAPE) for _ in range(2))
    x = (x + 2).to(device, dtype, memory_format=of_images)
    dy = dy.to(device, dtype, memory_format=of_gradient)
    weight, bias = (torch.rand(SHAPE[0], device=device) + 0.5 for _ in range(2))
    return x, dy, weight, bias


def formulas(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Output and gradients by automatic differentiation in double precision."""
    leaves = [y.detach().cpu().double().requires_grad_() for y in (x, weight, bias)]
    output = F.batch_norm(leaves[0], None, None, *leaves[1:], training=True, eps=EPS)
    output.backward(dy.cpu().double())
    keys = ('dx', 'd_weight', 'd_bias')
    return {'output': output.detach(), **{k: y.grad for k, y in zip(keys, leaves, strict=True)}}


def four_processes(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The same by the parts of the layer, one process after the other."""
    images, gradients = x.split(SIZES), dy.split(SIZES)
    pixels = SHAPE[1] * SHAPE[2]
    counts = torch.tensor(SIZES, device=x.device, dtype=torch.float32)[:, None] * pixels  # (R, 1)
    moments = [joint.local_moments(part, EPS) for part in images]
    means, variances = (torch.stack([m[i] for m in moments]) for i in (0, 1))  # (R, C)
    mean = (counts * means).sum(0) / counts.sum()
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / counts.sum()
    inv_std = (var + EPS).rsqrt()
    outputs = [joint.scale_and_shift(p, weight, bias, mean, inv_std, EPS) for p in images]
    pairs = list(zip(gradients, images, strict=True))
    sums = sum(joint.local_gradient_sums(g, p, mean, inv_std) for g, p in pairs)
    dx = [joint.input_gradient(g, p, weight, mean, inv_std, sums, counts) for g, p in pairs]
    found = dict(output=torch.cat(outputs), dx=torch.cat(dx))
    return {**found, 'd_weight': sums[1] * inv_std, 'd_bias': sums[0]}


def whole_layer(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The same by the function of the layer, with the collectives of the group."""
    leaves = [y.detach().clone().requires_grad_() for y in (x, weight, bias)]
    output, *_ = joint._Normalize.apply(*leaves, EPS, distributed.group.WORLD)
    output.backward(dy)
    keys = ('dx', 'd_weight', 'd_bias')
    return {'output': output.detach(), **{k: y.grad for k, y in zip(keys, leaves, strict=True)}}


def apart(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference relative to that of ``wanted``."""
    difference = found.detach().cpu().double() - wanted
    return (difference.norm() / wanted.norm()).item()
