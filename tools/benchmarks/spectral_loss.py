"""Time and memory of the focal frequency loss, against the direct form of its definition.

The direct form transforms all images of prediction and target, full and complex, averages the
spectra and differentiates automatically, as the reference implementation does. Both forms run in
turns in one process; a row holds medians. Memory is the peak above the inputs, each in a process of
its own.

    OMP_NUM_THREADS=1 python tools/benchmarks/spectral_loss.py --batches 8 64 256 --rounds 7

On a machine with other work more threads mostly wait for each other: measure one.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from a2mim.models.spectral_losses import FocalFrequencyLoss

SIZE = (3, 224, 224)
TOLERANCE = 1e-6


def direct_form(pred: Tensor, target: Tensor) -> Tensor:
    """The loss with the settings of the configs, computed as in the reference implementation."""
    parts = []
    for image in (pred, target):
        spectrum = torch.fft.fft2(image, norm='ortho')
        parts.append(torch.stack([spectrum.real, spectrum.imag], dim=-1).mean(dim=0, keepdim=True))
    power = (parts[0] - parts[1]).square().sum(dim=-1)
    weight = power.detach().sqrt().log1p()
    return (weight / weight.max() * power).mean()


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'direct': direct_form,
    'ours': FocalFrequencyLoss(),
}


def make_batch(batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Waves with noise, and a prediction (with gradient) that is paler, offset and noisy."""
    torch.manual_seed(0)
    b = torch.arange(batch, device=device)[:, None, None, None]
    c = torch.arange(SIZE[0], device=device)[:, None, None]
    turn = torch.linspace(0, 2 * torch.pi, SIZE[1], device=device)
    waves = torch.sin((1 + c) * turn[:, None] + b) * torch.cos((1 + b % 3) * turn)
    target = waves + 0.3 * torch.randn_like(waves)
    return (0.7 * target + 0.1 + 0.3 * torch.randn_like(target)).requires_grad_(), target


def run(form: str, pred: Tensor, target: Tensor) -> Tensor:
    """Forward and backward pass up to a complete gradient; returns the loss."""
    pred.grad = None
    loss = FORMS[form](pred, target)
    loss.backward()
    return loss.detach()


def median_times(batch: int, rounds: int, device: str) -> dict[str, float]:
    """Milliseconds of each form, measured in turns, after one turn to warm up."""
    pred, target = make_batch(batch, device)
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds + 1):
        for form in FORMS:
            start = time.perf_counter()
            run(form, pred, target)
            if device == 'cuda':
                torch.cuda.synchronize()
            times[form].append(1e3 * (time.perf_counter() - start))
    return {form: statistics.median(values[1:]) for form, values in times.items()}


def relative_errors(batch: int, device: str) -> tuple[float, float]:
    """How far value and gradient (as a vector) are from the direct form, relative to it."""
    pred, target = make_batch(batch, device)
    expected = run('direct', pred, target)
    expected_grad = pred.grad
    value = run('ours', pred, target)
    grad_error = (pred.grad - expected_grad).norm() / expected_grad.norm()
    return ((value - expected).abs() / expected).item(), grad_error.item()


def extra_memory(form: str, batch: int, device: str) -> float:
    """Peak MiB that one step takes above its inputs; call it in a process of its own."""
    run(form, *make_batch(1, device))  # libraries and plans, which stay
    pred, target = make_batch(batch, device)
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(form, pred, target)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts again from here (Linux)
    before = _resident('VmRSS')
    run(form, pred, target)
    return _resident('VmHWM') - before


def _resident(field: str) -> float:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batches', type=int, nargs='+', default=[8, 64, 256])
    parser.add_argument('--rounds', type=int, default=7, help='timed turns per form')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    return parser.parse_args()


def main() -> None:
    """Print one row per batch size; fail where the two forms disagree."""
    args = parse_args()
    print(f'{SIZE} images, forward and backward, {args.device}, {torch.get_num_threads()} threads')
    print(
        'batch  direct ms  ours ms  faster | extra MiB: direct  ours  a gradient | value, grad off'
    )
    for batch in args.batches:
        times = median_times(batch, args.rounds, args.device)
        with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as fresh:
            memory = {form: fresh.apply(extra_memory, (form, batch, args.device)) for form in FORMS}
        errors = relative_errors(batch, args.device)
        gradient = 4 * batch * SIZE[0] * SIZE[1] * SIZE[2] / 2**20
        print(
            f'{batch:5} {times["direct"]:10.1f} {times["ours"]:8.1f} '
            f'{times["direct"] / times["ours"]:6.1f}x |'
            f'{memory["direct"]:18.0f} {memory["ours"]:5.0f} {gradient:11.0f} |'
            f' {errors[0]:.1e} {errors[1]:.1e}'
        )
        if max(errors) > TOLERANCE:
            raise SystemExit(f'the two forms differ by {max(errors):.1e}, more than {TOLERANCE}')


if __name__ == '__main__':
    main()
