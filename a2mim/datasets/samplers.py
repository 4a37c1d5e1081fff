"""Samplers that say which sample, in which epoch, and which copy of it.

A dataset draws every random number of a sample from its key alone. The key travels from the
sampler to the worker, so that a sample is the same in any worker and after any resume.
"""

import itertools
import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from mmengine.dataset import DefaultSampler

from a2mim.registry import DATA_SAMPLERS


class SampleKey(NamedTuple):
    """What makes one training sample: the image, the epoch and the copy within the epoch."""

    index: int
    epoch: int = 0
    repeat: int = 0

    @classmethod
    def of(cls, key: 'int | SampleKey') -> 'SampleKey':
        """A plain index stands for its first copy in epoch 0."""
        return key if isinstance(key, cls) else cls(operator.index(key))

    def generator(self, seed: int) -> np.random.Generator:
        """The only source of randomness of this sample."""
        return np.random.default_rng((seed, self.epoch, self.index, self.repeat))


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's sampler, yielding a ``SampleKey`` instead of an index.

    The order of an epoch is a function of (seed, epoch), and rank r of n takes the entries r,
    r + n, …: n processes with batch b see in each step the images of one process with batch
    n·b. Images that fill up the last step count as further copies.

    Args:
        dataset: Anything with a length.
        shuffle: Whether each epoch has its own order.
        seed: Shared by all ranks; the runner passes its own.
        round_up: Whether every rank gets the same number of samples.
    """

    endless = False
    start = 0

    def start_at(self, sample: int) -> None:
        """Begin the current epoch, and each later one, with the ``sample``-th of this rank.

        A run that is resumed within an epoch goes on there without loading what it has seen.
        """
        self.start = sample

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch, in its order."""
        size = len(self.dataset)
        if self.shuffle:
            return np.random.default_rng((self.seed, epoch)).permutation(size)
        return np.arange(size)

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """What this rank sees of an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        first = self.rank + start * self.world_size
        for position in range(first, self.total_size, self.world_size):
            repeat, place = divmod(position, len(order))
            yield SampleKey(int(order[place]), epoch, repeat)

    def __iter__(self) -> Iterator[SampleKey]:
        return self.keys(self.epoch, self.start)


@DATA_SAMPLERS.register_module()
class InfiniteEpochSampler(EpochSampler):
    """One epoch after another without end, for training that counts iterations.

    A batch may join the end of one pass through the data and the start of the next; ``epoch`` is
    the number of the first pass, and ``start_at`` counts samples through all of them.
    """

    endless = True

    def __iter__(self) -> Iterator[SampleKey]:
        passes, start = divmod(self.start, len(self))
        for epoch in itertools.count(self.epoch + passes):
            yield from self.keys(epoch, start)
            start = 0
