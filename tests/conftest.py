"""What every test shares: one thread per process, and a seed."""

import os

import pytest
import torch

# Two workers on two cores: more threads per process only wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
