"""Average spectra over processes: two real ones equal one with the joint batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from a2mim.models.spectral_losses import FocalFrequencyLoss

WORKER = Path(__file__).with_name('two_processes.py')
ROOT = Path(__file__).parents[3]


@pytest.mark.integration
def test_two_processes_equal_one_with_the_joint_batch(tmp_path):
    network = torch.nn.Conv2d(2, 2, 3, padding=1).double()
    image, target = torch.randn(2, 4, 2, 8, 8, dtype=torch.float64)
    batch = {'weights': network.state_dict(), 'image': image, 'target': target}
    torch.save(batch, tmp_path / 'batch.pt')
    loss = FocalFrequencyLoss()(network(image), target)
    loss.backward()
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, WORKER, tmp_path], env=environment, check=True, timeout=120)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        torch.testing.assert_close(found['loss'], loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(found['grad'], network.weight.grad, rtol=1e-12, atol=0)
