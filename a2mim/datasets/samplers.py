"""Samplers that say which sample, in which epoch, and which copy of it.

A dataset draws every random number of a sample from its key alone. The key travels from the
sampler to the worker, so that a sample is the same in any worker and after any resume.
"""

import itertools
import math
import operator
from collections.abc import Iterator, Sized
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


# [repeated_sampler]
# Repeated augmentation: a step sees some images several times, each time augmented anew.


ROUND = 256  # the published rule drops what does not fill this many


@DATA_SAMPLERS.register_module()
class RepeatedEpochSampler(EpochSampler):
    """As many samples an epoch as there are images, but copies of a third of them.

    Every image of the epoch's order stands there ``num_repeats`` times in a row. Rank r of n takes
    the entries r, r + n, …, so that the copies of an image fall to different ranks. It stops after
    ⌊⌊len / 256⌋ · 256 / n⌋ of them: 160128 on each of 8 ranks for ImageNet-1K, 626 batches of 256
    of which the last is half full. A data set below 256 images is not cut.

    The order is a function of (seed, epoch), where the published one is of the epoch alone.

    Args:
        dataset: Anything with a length.
        num_repeats: Copies of an image.
        shuffle: Whether each epoch has its own order.
        seed: Shared by all ranks; the runner passes its own.

    Raises:
        ValueError: If ``num_repeats`` is less than 1.

    Reference:
        Hoffer et al., Augment your batch, CVPR 2020 (https://arxiv.org/abs/1901.09335); the rule is
        that of DeiT and of ``timm.data.distributed_sampler.RepeatAugSampler``.
    """

    def __init__(
        self, dataset: Sized, num_repeats: int = 3, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        if num_repeats < 1:
            raise ValueError(f'num_repeats={num_repeats} must be at least 1; published: 3')
        self.num_repeats = num_repeats
        size = len(dataset)
        if size < ROUND:
            self.num_samples = math.ceil(size / self.world_size)
        else:
            self.num_samples = size // ROUND * ROUND // self.world_size

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """What this rank sees of an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        for step in range(start, self.num_samples):
            place, repeat = divmod(self.rank + step * self.world_size, self.num_repeats)
            # Where there are more ranks than copies, the first images come again as further ones.
            again, place = divmod(place, len(order))
            yield SampleKey(int(order[place]), epoch, repeat + again * self.num_repeats)


# [shard_sampler]
# An order of the images that reads shards one after the other, and is random all the same.
#
# Axes: N images.


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """The shards in random order, each process its own part of them, mixed within a window.

    At any time a process reads the shards of one window, which the memory of the machine holds
    between reads; its data workers share them. Processes read different shards, but for one that
    may lie across the border of two parts. The order is a function of the seed, the epoch and the
    number of processes.

    Args:
        dataset: Its ``source`` has ``starts``, the numbers of the images with which shards begin.
        window: Images that are mixed; a few times the images of a shard.
        seed: Shared by all ranks; the runner passes its own.
        round_up: Whether every rank gets the same number of samples.

    Raises:
        ValueError: If ``window`` is less than 2.
        TypeError: If the data set has no shards.
    """

    def __init__(
        self, dataset: Sized, window: int, seed: int | None = None, round_up: bool = True
    ) -> None:
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        if window < 2:
            raise ValueError(
                f'window={window} mixes nothing; give a few times the images of a shard'
            )
        source = getattr(dataset, 'source', dataset)
        if not hasattr(source, 'starts'):
            raise TypeError(
                f'{type(source).__name__} has no shards to read in turn; use EpochSampler for it'
            )
        self.window = window
        self.starts = np.asarray(source.starts)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch; rank r of n takes every n-th from the r-th on."""
        rng = np.random.default_rng((self.seed, epoch))
        shards = np.split(np.arange(len(self.dataset)), self.starts[1:])
        in_turn = np.concatenate([shards[number] for number in rng.permutation(len(shards))])
        order = np.empty_like(in_turn)
        for rank, part in enumerate(np.array_split(in_turn, self.world_size)):
            windows = np.split(part, range(self.window, len(part), self.window))
            order[rank :: self.world_size] = np.concatenate(
                [rng.permutation(window) for window in windows]
            )
        return order
