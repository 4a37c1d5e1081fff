"""The random numbers of one training step, as a function of where the step is in the run."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from a2mim.registry import HOOKS


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed Python's, numpy's and torch's global generators, of the CPU and of GPUs in use.

    Mixing, random erasing and drop path draw from these. Once they are seeded, what a step draws
    depends on no earlier step: nothing random has to be stored in a checkpoint, and evaluating or
    drawing pictures in between changes nothing.

    Args:
        seed: Of the run.
        iteration: Iterations done before this one.
        rank: Of this process; each draws its own numbers.
    """
    words = np.random.SeedSequence((seed, iteration, rank)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # torch.manual_seed visits every kind of device, and remembers who called: ten times as slow.
    of_torch = int(words[2]) << 32 | int(words[3])
    torch.default_generator.manual_seed(of_torch)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(of_torch)


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed every global generator before each step, from seed, iteration and rank.

    Early, so that what later hooks draw is that of the step too.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the state of the generators, whatever it was."""
        seed_step(runner.seed, runner.iter, runner.rank)
