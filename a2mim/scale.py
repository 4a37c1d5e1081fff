"""From pixel values of any type to [0, 255]: rules, ranges of types, and what images use of them.

``(value - low) * 255 / (high - low)``, so that ``mean`` and ``std`` of a preprocessor are in
[0, 255] whatever the files hold. Values beyond low and high are not cut.

Axes: C channels, (H, W) pixels, K sampled pixels, N images.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from a2mim.errors import BadDataError

MEASURED = ('minmax', 'percentile')  # of the training images
RULES = ('dtype', *MEASURED)
PERCENTILES = (0.1, 99.9)
SMALL_PART = 0.3  # of a range; 14 of 16 bits are a quarter
POOL = 2**21  # sampled pixels of a channel, of all images together
FEWEST, MOST = 16, 2**14  # of an image

# A rule, or low and high, each a number or one number per channel.
Scale = str | Sequence[float | Sequence[float]]


def check_scale(scale: Scale, channels: int) -> tuple[list[float], list[float]] | None:
    """Low and high of each channel; None for a rule.

    Raises:
        ValueError: If it is neither a rule nor two ascending numbers for each channel.
    """
    if isinstance(scale, str):
        if scale not in RULES:
            raise ValueError(f'scale={scale!r} must be one of {RULES}, or (low, high)')
        return None
    if isinstance(scale, Sequence) and len(scale) == 2:
        ends = [_per_channel(end, channels) for end in scale]
        if all(len(end) == channels for end in ends) and _ascend(*ends):
            return ends[0], ends[1]
    raise ValueError(
        f'scale={scale} must be (low, high), each a number or {channels} numbers, one per channel, '
        f'low below high; or one of {RULES}'
    )


def _per_channel(end: object, channels: int) -> list[float]:
    if isinstance(end, int | float):
        return [float(end)] * channels
    return [float(value) for value in end] if isinstance(end, Sequence) else []


def _ascend(lows: list[float], highs: list[float]) -> bool:
    pairs = zip(lows, highs, strict=True)
    return all(math.isfinite(high - low) and low < high for low, high in pairs)


def type_range(dtype: str) -> tuple[int, int]:
    """The least and the largest value of an integer type, by name.

    Raises:
        ValueError: If it is a floating-point type, which has no range of its own.
    """
    if np.dtype(dtype).kind not in 'iu':
        raise ValueError(
            f'the images are {dtype}, which has no range of its own: set '
            "model.data_preprocessor.scale to (low, high), 'minmax' or 'percentile', and mean and "
            'std as tools/prepare_data/compute_stats.py --scale prints them'
        )
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def type_name(image: Tensor) -> str:
    """The type of a tensor, as numpy calls it."""
    return str(image.dtype).removeprefix('torch.')


def range_warning(dtype: str, low: float, high: float) -> str | None:
    """What to say of images that use a small part of the range of their type; None of others."""
    least, most = type_range(dtype)
    share = (high - low) / (most - least)
    if share >= SMALL_PART:
        return None
    if low == high:
        return f'the images are {low:g} in every pixel'
    return (
        f'the images are {dtype} and use {low:g} to {high:g} of {least} to {most}, {share:.1%} of '
        f"the range: set model.data_preprocessor.scale='percentile', or scale=({low:g}, {high:g}), "
        'and mean and std as tools/prepare_data/compute_stats.py --scale prints them'
    )


class Source(Protocol):
    """What measuring needs of a source of images."""

    def __len__(self) -> int: ...

    def load_and_count(self, index: int) -> tuple[Tensor, int]:
        """An image, (C, H, W), and the number of missing values that were filled."""
        ...


@dataclass(frozen=True)
class Moments:
    """Pixels of one type, channel by channel.

    Attributes:
        count: Number of pixels.
        mean: (C,).
        squares: (C,), sum of squared deviations from the mean.
        low, high: (C,), the least and the largest value.
        sample: (C, K), values of evenly spaced pixels.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, image: Tensor, most: int) -> 'Moments':
        """Of an image (C, H, W), with a sample of at most ``most`` pixels."""
        pixels = image.numpy().reshape(image.shape[0], -1).astype(np.float64)
        mean = pixels.mean(axis=1)
        squares = ((pixels - mean[:, None]) ** 2).sum(axis=1)
        places = np.linspace(0, pixels.shape[1] - 1, min(most, pixels.shape[1]), dtype=int)
        ends = pixels.min(axis=1), pixels.max(axis=1)
        return cls(pixels.shape[1], mean, squares, *ends, pixels[:, places].astype(np.float32))

    def scaled(self, low: np.ndarray, high: np.ndarray) -> 'Moments':
        """After the map of (C,) ``low`` and ``high`` to 0 and 255."""
        gain = 255 / (np.asarray(high, float) - low)
        ends = (self.low - low) * gain, (self.high - low) * gain
        sample = (self.sample - np.asarray(low, float)[:, None]) * gain[:, None]
        return Moments(self.count, (self.mean - low) * gain, self.squares * gain**2, *ends, sample)

    def percentiles(self) -> tuple[np.ndarray, np.ndarray]:
        """(C,) low and high percentile, by ``PERCENTILES``, of the sample."""
        low, high = np.percentile(self.sample, PERCENTILES, axis=1)
        return low, high


def pooled(parts: Sequence[Moments]) -> Moments:
    """Of all pixels together; no sum of squares that could cancel."""
    counts = np.array([part.count for part in parts], dtype=np.float64)
    means = np.array([part.mean for part in parts])
    count = counts.sum()
    mean = (counts[:, None] * means).sum(axis=0) / count
    squares = sum(part.squares for part in parts) + (counts[:, None] * (means - mean) ** 2).sum(
        axis=0
    )
    return Moments(
        int(count),
        mean,
        squares,
        np.min([part.low for part in parts], axis=0),
        np.max([part.high for part in parts], axis=0),
        np.concatenate([part.sample for part in parts], axis=1),
    )


@dataclass
class PixelStats:
    """What is known of the images of a source that were read.

    Attributes:
        parts: ``Moments`` of each image, by the name of its type.
        sizes: (H, W) of each.
        filled: Number of missing values that were filled in each.
        unreadable: Number of images that cannot be read.
    """

    parts: dict[str, list[Moments]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    filled: list[int] = field(default_factory=list)
    unreadable: int = 0

    @property
    def dtype(self) -> str:
        """The type of most images."""
        return max(self.parts, key=lambda name: len(self.parts[name]))

    def filled_note(self) -> str | None:
        """How many values were missing, None if none was."""
        number = sum(count > 0 for count in self.filled)
        if not number:
            return None
        return (
            f'{sum(self.filled)} values in {number} of {len(self.filled)} images are NaN, infinite '
            'or nodata; they are filled with the mean of their band'
        )

    def used_range(self) -> tuple[float, float]:
        """Low and high percentile of the images of the main type, over all channels."""
        low, high = pooled(self.parts[self.dtype]).percentiles()
        return float(low.min()), float(high.max())

    def resolve(self, rule: Scale) -> tuple[list[float], list[float]]:
        """Low and high of each channel that a rule means for these images.

        Raises:
            ValueError: If a channel has one value only, or 'dtype' is asked of float images.
        """
        main = pooled(self.parts[self.dtype])
        if not isinstance(rule, str):
            return check_scale(rule, len(main.mean)) or ([], [])
        if rule == 'dtype':
            low, high = (np.full(len(main.mean), end) for end in type_range(self.dtype))
        else:
            low, high = (main.low, main.high) if rule == 'minmax' else main.percentiles()
        flat = np.flatnonzero(low >= high)
        if len(flat):
            raise ValueError(
                f'scale={rule!r}: channel {flat[0]} is {low[flat[0]]:g} in every pixel that was '
                'looked at; leave it out, or give numbers'
            )
        return [_short(value) for value in low], [_short(value) for value in high]

    def mean_and_std(self, rule: Scale) -> tuple[np.ndarray, np.ndarray]:
        """Both of each channel, (C,), in [0, 255].

        Raises:
            ValueError: If a channel has one value only, by which nothing can be divided; or there
                are several types and ``rule`` is not 'dtype'.
        """
        if rule == 'dtype':
            ends = {name: type_range(name) for name in self.parts}
        elif len(self.parts) > 1:
            raise ValueError(
                f'scale={rule}: the images are of several types, {", ".join(sorted(self.parts))}; '
                "only 'dtype' scales each by its own range"
            )
        else:
            ends = {self.dtype: self.resolve(rule)}
        whole = pooled(
            [
                part
                if name == 'uint8' and rule == 'dtype'
                else part.scaled(*ends_of(part, *ends[name]))
                for name, parts in self.parts.items()
                for part in parts
            ]
        )
        mean, std = whole.mean, np.sqrt(whole.squares / whole.count)
        if std.min() == 0:
            raise ValueError(
                f'channel {std.argmin()} is {mean[std.argmin()]:g} in every pixel: with a standard '
                'deviation of 0 it cannot be normalised; leave the channel out'
            )
        return mean, std


def ends_of(part: Moments, low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of each channel, (C,)."""
    return np.broadcast_to(low, part.mean.shape), np.broadcast_to(high, part.mean.shape)


def _short(value: float) -> float | int:
    """A number that reads well in a config: whole, or of seven digits."""
    return int(value) if float(value).is_integer() else float(f'{value:.7g}')


class Measured(Dataset):
    """Type, size, missing values and moments of single images.

    Args:
        source: The images.
        indices: Those to measure.
        skip_bad: Give the index in place of an image that cannot be read.
    """

    def __init__(self, source: Source, indices: np.ndarray, skip_bad: bool) -> None:
        self.source = source
        self.indices = indices
        self.skip_bad = skip_bad
        self.most = int(np.clip(POOL // len(indices), FEWEST, MOST))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[str, tuple[int, int], int, Moments] | int:
        index = int(self.indices[position])
        try:
            image, filled = self.source.load_and_count(index)
        except BadDataError:
            if self.skip_bad:
                return index
            raise
        size = image.shape[1], image.shape[2]
        return type_name(image), size, filled, Moments.of(image, self.most)


def measure(
    source: Source,
    number: int | None = None,
    workers: int = 0,
    *,
    skip_bad: bool = False,
    watch: Callable[[Iterable, int], Iterable] = lambda items, _: items,
) -> PixelStats:
    """Read ``number`` evenly spread images, or all; the result does not depend on ``workers``.

    Args:
        source: The images.
        number: How many.
        workers: Processes that read; with 0 this one does.
        skip_bad: Count images that cannot be read, unless none can be.
        watch: Called with the results and their number, for a progress bar.

    Raises:
        ValueError: If an image cannot be read, of which the message says the name.
    """
    number = min(number or len(source), len(source))
    indices = np.linspace(0, len(source) - 1, number, dtype=int)
    loader = DataLoader(Measured(source, indices, skip_bad), batch_size=None, num_workers=workers)
    loader.collate_fn = _as_it_is
    stats, bad = PixelStats(), 0
    for result in watch(loader, number):
        if isinstance(result, int):
            stats.unreadable, bad = stats.unreadable + 1, result
            continue
        name, size, filled, moments = result
        stats.parts.setdefault(name, []).append(moments)
        stats.sizes.append(size)
        stats.filled.append(filled)
    if not stats.parts:
        source.load_and_count(bad)  # raises with the reason
    return stats


def _as_it_is(item: object) -> object:
    return item
