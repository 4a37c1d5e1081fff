"""What every test shares: one thread per process, a seed, and memory that is given back."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch

# Two workers on two cores: more threads per process only wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


def pytest_collection_finish() -> None:
    """Leave what is imported out of later collections, so that each takes milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Free the models of a test: their hooks refer to them, so that they wait for the collector.

    It counts objects, not bytes, and would let gigabytes wait.
    """
    yield
    gc.collect()
