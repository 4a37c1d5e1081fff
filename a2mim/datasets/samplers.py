"""Samplers that yield (index, epoch, repeat) keys, from which each sample seeds its generator.

The random draws of a sample depend on its key and the seed alone, so that a sample is the same in
any worker and after any resume.
"""

import itertools
import math
import operator
from array import array
from collections.abc import Iterator, Sized
from typing import Any, NamedTuple

import numpy as np
from mmengine.dataset import DefaultSampler

from a2mim.registry import DATA_SAMPLERS


class SampleKey(NamedTuple):
    """The key of a training sample: the image, the epoch, and the repeat within the epoch."""

    index: int
    epoch: int = 0
    repeat: int = 0

    @classmethod
    def of(cls, key: 'int | SampleKey') -> 'SampleKey':
        """``key`` itself, or the key of a plain index: repeat 0 in epoch 0."""
        return key if isinstance(key, SampleKey) else cls(operator.index(key))

    def generator(self, seed: int) -> np.random.Generator:
        """The generator for all random draws of this sample."""
        return generator((seed, self.epoch, self.index, self.repeat))


def generator(entropy: tuple[int, ...]) -> np.random.Generator:
    """``np.random.default_rng(entropy)``, in half of its time where each number has 32 bits."""
    try:
        words = np.frombuffer(array('I', entropy), dtype=np.uint32)
    except OverflowError:
        return np.random.default_rng(entropy)
    return np.random.Generator(np.random.PCG64(words))


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's sampler, yielding a ``SampleKey`` instead of an index.

    The order of an epoch is a function of (seed, epoch), and rank r of n takes the entries r,
    r + n, …: in each step, n processes with batch size b see the images of one process with batch
    size n·b. Images that fill up the last step are further repeats.

    Args:
        dataset: Anything with a length.
        shuffle: Whether each epoch has its own order.
        seed: Shared by all ranks; the runner passes its own.
        round_up: Whether every rank gets the same number of samples.
    """

    endless = False
    start = 0

    def start_at(self, sample: int) -> None:
        """Start the current epoch, and each later one, at the ``sample``-th sample of this rank.

        A run that resumes within an epoch skips earlier samples without loading them.
        """
        self.start = sample

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch, in order."""
        size = len(self.dataset)
        if self.shuffle:
            return np.random.default_rng((self.seed, epoch)).permutation(size)
        return np.arange(size)

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """The keys of this rank for an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        first = self.rank + start * self.world_size
        for position in range(first, self.total_size, self.world_size):
            repeat, entry = divmod(position, len(order))
            yield SampleKey(int(order[entry]), epoch, repeat)

    def __iter__(self) -> Iterator[SampleKey]:
        return self.keys(self.epoch, self.start)


@DATA_SAMPLERS.register_module()
class InfiniteEpochSampler(EpochSampler):
    """Yields epoch after epoch without end, for training by iterations.

    A batch may span the end of one epoch and the start of the next. ``epoch`` is the number of the
    first epoch; ``start_at`` counts samples over all epochs.
    """

    endless = True

    def __iter__(self) -> Iterator[SampleKey]:
        epochs, start = divmod(self.start, len(self))
        for epoch in itertools.count(self.epoch + epochs):
            yield from self.keys(epoch, start)
            start = 0


# The number of samples is rounded down to a multiple of this, as in timm.
ROUND = 256


@DATA_SAMPLERS.register_module()
class RepeatedEpochSampler(EpochSampler):
    """Repeated augmentation: one epoch has len(dataset) samples, a third of the images three times.

    Every image of the epoch's order is repeated ``num_repeats`` times in a row. Rank r of n takes
    the entries r, r + n, …, so that the repeats of an image go to different ranks. It stops after
    ⌊⌊len / 256⌋ · 256 / n⌋ samples: 160128 on each of 8 ranks for ImageNet-1K, 626 batches of 256
    of which the last is half full. Data sets below 256 images are not cut.

    The order is a function of (seed, epoch); in the reference implementation of the epoch alone.

    Args:
        dataset: Anything with a length.
        num_repeats: Repeats of an image.
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
            raise ValueError(f'num_repeats={num_repeats} must be at least 1; the reference has 3')
        self.num_repeats = num_repeats
        size = len(dataset)
        if size < ROUND:
            self.num_samples = math.ceil(size / self.world_size)
        else:
            self.num_samples = size // ROUND * ROUND // self.world_size

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """The keys of this rank for an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        for step in range(start, self.num_samples):
            entry, repeat = divmod(self.rank + step * self.world_size, self.num_repeats)
            # With more ranks than repeats, the first images are repeated further.
            again, entry = divmod(entry, len(order))
            yield SampleKey(int(order[entry]), epoch, repeat + again * self.num_repeats)


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(EpochSampler):
    """As many samples of every class, for data of which some classes have few images.

    One epoch has len(dataset) samples, the same number of each class up to one. Within a class all
    images come before one is repeated, each repeat with draws of its own. An image with several
    classes is drawn for each of them, an image without a class never.

    The order is a function of (seed, epoch); rank r of n takes the entries r, r + n, ….

    Args:
        dataset: Its ``source`` has labels.
        shuffle: Must be True.
        seed: Shared by all ranks; the runner passes its own.
        round_up: Whether every rank gets the same number of samples.

    Raises:
        ValueError: If ``shuffle`` is False.
        TypeError: If the data set has no labels.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up)
        if not shuffle:
            raise ValueError('shuffle=False: the order of this sampler is random; use EpochSampler')
        self.classes = images_by_class(getattr(dataset, 'source', dataset))

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch, in order."""
        rng = np.random.default_rng((self.seed, epoch))
        share, rest = divmod(len(self.dataset), len(self.classes))
        counts = np.full(len(self.classes), share)
        counts[rng.permutation(len(counts))[:rest]] += 1
        drawn = [draw(rng, images, n) for images, n in zip(self.classes, counts, strict=True)]
        return rng.permutation(np.concatenate(drawn))

    def keys(self, epoch: int, start: int = 0) -> Iterator[SampleKey]:
        """The keys of this rank for an epoch, from its ``start``-th sample on."""
        order = self.order(epoch)
        order = np.resize(order, self.total_size)  # filled up with its start
        repeats = count_before(order)
        first = self.rank + start * self.world_size
        for position in range(first, self.total_size, self.world_size):
            yield SampleKey(int(order[position]), epoch, int(repeats[position]))


def images_by_class(source: Any) -> list[np.ndarray]:
    """Indices of the images of each class that has one.

    Raises:
        TypeError: If the source has no labels.
    """
    labels = getattr(source, 'labels', None)
    if labels is None:
        numbers = range(len(source)) if hasattr(source, 'label') else ()
        labels = [source.label(index) for index in numbers]
    if len(labels) == 0 or labels[0] is None:
        raise TypeError(
            f'{type(source).__name__} has no labels to balance; use EpochSampler, or '
            'ImageFolder(with_labels=True) or a list of lines "path label"'
        )
    table = np.asarray(labels).reshape(len(labels), -1)  # (N, M), padded by negative numbers
    images, column = np.nonzero(table >= 0)
    label = table[images, column]
    by_class = np.argsort(label, kind='stable')
    ends = np.flatnonzero(np.diff(label[by_class])) + 1
    return np.split(images[by_class], ends)


def draw(rng: np.random.Generator, images: np.ndarray, number: int) -> np.ndarray:
    """``number`` of the images in random order, all before one is repeated."""
    rounds = -(-number // len(images))
    return np.concatenate([rng.permutation(images) for _ in range(rounds)] or [images])[:number]


def count_before(values: np.ndarray) -> np.ndarray:
    """For each value, how many equal ones come before it."""
    order = np.argsort(values, kind='stable')
    ordered = values[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.empty(len(values), dtype=np.int64)
    sizes = np.diff(starts, append=len(values))
    counts[order] = np.arange(len(values)) - np.repeat(starts, sizes)
    return counts


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """Shards in random order, a part of them for each process, with images shuffled in a window.

    A process reads the shards of one window at a time, which stay in the page cache. Processes
    read different shards, except for one that may lie on the border of two parts. The order is a
    function of the seed, the epoch and the world size.

    Args:
        dataset: Its ``source`` has ``starts``, the indices of the first images of shards.
        window: Number of images to shuffle; a few times the images of a shard.
        seed: Shared by all ranks; the runner passes its own.

    Raises:
        ValueError: If ``window`` is less than 2.
        TypeError: If the data set has no shards.
    """

    def __init__(self, dataset: Sized, window: int, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        if window < 2:
            raise ValueError(
                f'window={window} shuffles nothing; give a few times the images of a shard'
            )
        source = getattr(dataset, 'source', dataset)
        starts = getattr(source, 'starts', None)
        if starts is None:
            raise TypeError(f'{type(source).__name__} has no shards; use EpochSampler')
        self.window = window
        self.starts = np.asarray(starts)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch; rank r of n takes the entries r, r + n, …."""
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
