"""What a data set does with an image that cannot be read.

Axes: C channels, (H, W) pixels.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from torch import Tensor

from a2mim.datasets.samplers import SampleKey
from a2mim.errors import BadDataError

NUM_TRIALS = 10  # with a tenth of the images bad, all of them fail once in 10^10 bad images
STREAM = 1  # a word behind the key: draws apart from those of the augmentations


class Source(Protocol):
    """The part of an image source that is needed here."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Tensor:
        """An image, (C, H, W), uint8."""


# Takes a source, a key and a seed; gives the image, its index, and further entries of the sample.
Loader = Callable[[Source, SampleKey, int], tuple[Tensor, int, dict[str, int]]]


def load_or_raise(source: Source, key: SampleKey, seed: int) -> tuple[Tensor, int, dict]:
    """Load the image of a key. For evaluation: a score on other images would be another score."""
    return source.load(key.index), key.index, {}


def load_or_substitute(source: Source, key: SampleKey, seed: int) -> tuple[Tensor, int, dict]:
    """Load the image of a key or, if it cannot be read, another one: a function of seed and key.

    Returns:
        The image, its index, and the entry ``unreadable`` of the sample: the index of the image
        that was to be read if it could not be, -1 otherwise.

    Raises:
        BadDataError: If the images that were drawn in its place cannot be read either.
    """
    try:
        return source.load(key.index), key.index, {'unreadable': -1}
    except BadDataError as error:
        for index in _others(len(source), key, seed):
            try:
                return source.load(index), index, {'unreadable': key.index}
            except BadDataError:
                continue
        raise BadDataError(
            f'{error}. The {NUM_TRIALS} images drawn in its place cannot be read either'
        ) from error


def _others(size: int, key: SampleKey, seed: int) -> Iterator[int]:
    """Indices of other images than that of ``key``; none if there is no other."""
    if size > 1:
        rng = np.random.default_rng((seed, key.epoch, key.index, key.repeat, STREAM))
        for draw in rng.integers(size - 1, size=NUM_TRIALS):
            yield int(draw) + int(draw >= key.index)


LOADERS = {'raise': load_or_raise, 'substitute': load_or_substitute}


def find_loader(on_bad_image: str) -> Loader:
    """The function of that name.

    Raises:
        ValueError: If there is none.
    """
    if on_bad_image not in LOADERS:
        raise ValueError(f'on_bad_image={on_bad_image!r} must be one of {sorted(LOADERS)}')
    return LOADERS[on_bad_image]
