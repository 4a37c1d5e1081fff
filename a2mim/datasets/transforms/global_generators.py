"""Make code that draws from global generators a function of ours."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_globally(rng: np.random.Generator) -> Iterator[None]:
    """Seed Python's, numpy's and torch's generators from ``rng``; put them back afterwards.

    timm and torchvision draw from these. Inside the block what they draw depends on ``rng`` alone,
    and nothing outside notices.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    torch.random.default_generator.manual_seed(seed)  # of the CPU only: no call to a GPU
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
