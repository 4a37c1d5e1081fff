"""The random numbers of a step are those of its seed, iteration and process."""

import itertools
import random

import numpy as np
import torch

from a2mim.engine.step_seed import seed_step


def draws(*place: int) -> tuple[float, ...]:
    """A number from each generator that a step may draw from."""
    seed_step(*place)
    return random.random(), np.random.random(), torch.rand(()).item(), torch.randn(()).item()


def test_a_step_draws_the_same_numbers_whatever_was_drawn_before():
    first = draws(7, 100, 0)
    random.random(), np.random.random(3), torch.rand(5)
    assert draws(7, 100, 0) == first


def test_seed_iteration_and_rank_each_change_every_generator():
    places = [(7, 100, 0), (8, 100, 0), (7, 101, 0), (7, 100, 1), (100, 7, 0), (0, 0, 0)]
    for left, right in itertools.combinations([draws(*place) for place in places], 2):
        assert all(a != b for a, b in zip(left, right, strict=True))


def test_the_generators_are_seeded_apart():
    # Words 0, 1 and 2-3 of SeedSequence, as numpy documents it.
    words = np.random.SeedSequence((7, 100, 0)).generate_state(4)
    python, numpy, uniform, _ = draws(7, 100, 0)
    assert python == random.Random(int(words[0])).random()
    assert numpy == np.random.RandomState(words[1]).random_sample()
    generator = torch.Generator().manual_seed(int(words[2]) * 2**32 + int(words[3]))
    assert uniform == torch.rand((), generator=generator).item()
