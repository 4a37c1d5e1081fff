"""Pinned losses of the reference implementation (OpenMixup): load them and compare with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import formulas

FOLDER = Path(__file__).parent / 'data' / 'losses'
# Name of the inputs: shape of the images, blocks of the mask, seed.
INPUTS = {
    'A': ((2, 3, 64, 64), (4, 4), 11),
    'B': ((4, 3, 64, 64), (16, 16), 12),
    'C': ((2, 1, 64, 64), (8, 8), 13),
    'D': ((2, 3, 64, 96), (4, 6), 14),
}


def cases(file: str) -> list:
    """The rows of ``file`` as test parameters, each with its key as its name."""
    return [pytest.param(row, id=row['key']) for row in json.loads((FOLDER / file).read_text())]


def batch(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction (with gradient), target and mask; float32 numbers in float64."""
    shape, grid, seed = INPUTS[name]
    target = formulas.image(f'loss/{name}/x', shape, seed)
    noise = formulas.u(f'loss/{name}/e', target.numel(), seed).reshape(shape)
    pred = ((0.7 * target + 0.1).numpy() + 0.6 * noise).astype(np.float32)
    mask = formulas.block_mask(f'loss/{name}/mask', (shape[0], *grid), 0.6, seed)
    return torch.from_numpy(pred).double().requires_grad_(), target.double(), mask


def sine_batch() -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of the numbers that are written out in the tests, in float64."""
    t = torch.arange(2 * 3 * 64 * 64, dtype=torch.float64).reshape(2, 3, 64, 64)
    b, i, j = torch.meshgrid(torch.arange(2), torch.arange(4), torch.arange(4), indexing='ij')
    pred = torch.cos(0.013 * t) + 0.1
    return pred.requires_grad_(), torch.sin(0.01 * t), ((4 * i + j + b) % 5 < 3).to(torch.uint8)


def assert_gradient(pred: Tensor, case: dict) -> None:
    """Compare 256 entries of ``pred.grad`` and its norm with the pinned ones."""
    grad = pred.grad.flatten().numpy()
    with np.load(FOLDER / 'gradients.npz') as pinned:
        expected = pinned[case['key']]
    # Pinned in float32 for the most part, hence no tighter than its rounding of 6e-8.
    index = formulas.sample_index(grad.size, 256)
    np.testing.assert_allclose(grad[index], expected, rtol=1e-7, atol=1e-14)
    assert np.linalg.norm(grad) == pytest.approx(case['grad_l2'], rel=1e-7)
