"""Look at a folder of images: how many, how large, of how many channels, and their statistics."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2mim.datasets import ImageFolder
from a2mim.datasets.decoding import open_picture
from a2mim.errors import BadDataError
from a2mim.options import usable_cores
from a2mim.scale import PixelStats, Scale, measure, range_warning, type_range

SAMPLE = 64  # images, evenly spread, that are read
FEW = 8  # of which the channels are told
MOST_CHANNELS = 32  # that are tried
GREY = ('1', 'L', 'I', 'F')  # Pillow's modes begin with one of them
# Side of the images of a run by the median short side in the folder, the first that is reached.
SIDES = {160: 224, 80: 96, 48: 64, 0: 32}


@dataclass(frozen=True)
class Images:
    """What is known of a folder.

    Attributes:
        root: Absolute path of what is read.
        number: Of images below it.
        stats: Of a sample.
        channels, scale: As a config states them.
        mean, std: One number a channel, in [0, 255].
        why: Reasons of ``channels`` and ``scale``.
    """

    root: str
    number: int
    stats: PixelStats
    channels: int
    scale: Scale
    mean: list[float]
    std: list[float]
    why: dict[str, str]

    @property
    def short_side(self) -> int:
        """Median of the sample, in pixels."""
        return int(np.median([min(size) for size in self.stats.sizes]))

    def found(self) -> str:
        """For a person."""
        sizes = sorted(self.stats.sizes, key=lambda size: size[0] * size[1])
        height, width = sizes[len(sizes) // 2]
        looked = len(sizes) + self.stats.unreadable
        ends = [f'{h}×{w}' for h, w in dict.fromkeys((sizes[0], sizes[-1]))]
        return (
            f'{self.number} in {self.root}; {looked} of them looked at: '
            f'{self.stats.unreadable} unreadable, {" to ".join(ends)} pixels '
            f'(height × width), median {height}×{width}, {self.stats.dtype}'
        )

    def facts(self) -> dict[str, str]:
        """Channels and scale, and why, for a person."""
        values = {'channels': self.channels, 'scale': self.scale}
        return {name: f'{value}: {self.why[name]}' for name, value in values.items()}

    def preprocessor(self) -> dict:
        """Its config."""
        own = {} if self.scale == 'dtype' else {'scale': self.scale}
        return dict(type='ImagePreprocessor', mean=self.mean, std=self.std, **own)

    def source(self) -> dict:
        """Config of the source of images."""
        # With numbers, images of another type are bad ones.
        own = {} if self.scale == 'dtype' else {'dtype': self.stats.dtype}
        return dict(type='ImageFolder', root=self.root, channels=self.channels, **own)


def folder_of(data: str) -> Path:
    """The folder that is read for ``--data``: its ``train``, where it has one.

    Raises:
        FileNotFoundError: If it is no folder.
    """
    root = Path(data).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f'--data {data} is not a folder; give the folder of your images')
    part = root / 'train' if (root / 'train').is_dir() else root
    if any(part.glob('*.tar')):
        raise ValueError(
            f'--data {data} holds tar shards; for these run a2mim pretrain with the config of '
            '`a2mim recipes cp a2mim_resnet50_1xb128-cos-auto_shards-224px my.py`'
        )
    return part.resolve()


def look(root: str, channels: int | None, scale: Scale | None) -> Images:
    """Read a sample of the images in ``root``.

    Args:
        root: Absolute path.
        channels: As the user wants them, or None.
        scale: The same.

    Raises:
        FileNotFoundError: If there are none.
        BadDataError: If none of the sample can be read.
        ValueError: If their channels or values cannot be normalised.
    """
    why = {'channels': '--channels', 'scale': '--scale'}
    if channels is None:
        channels, why['channels'] = channels_of(root)
    source = ImageFolder(root, channels=channels)
    workers = min(4, usable_cores()) if len(source) > FEW else 0
    stats = measure(source, SAMPLE, workers, skip_bad=True)
    if scale is None:
        scale, why['scale'] = scale_of(stats)
    mean, std = stats.mean_and_std(scale)
    if scale != 'dtype':
        scale = [ends if len(set(ends)) > 1 else ends[0] for ends in stats.resolve(scale)]
    mean, std = ([round(float(value), 2) for value in values] for values in (mean, std))
    return Images(root, len(source), stats, channels, scale, mean, std, why)


def channels_of(root: str) -> tuple[int, str]:
    """Number of channels to read, and why.

    Raises:
        BadDataError: If none of a few images can be read with any number.
    """
    source = ImageFolder(root, channels=3)
    places = np.linspace(0, len(source) - 1, min(FEW, len(source)), dtype=int).tolist()
    readable = [place for place in places if can_read(source, place)]
    if readable:
        modes = [mode_of(source, place) for place in readable]
        if all(mode.startswith(GREY) for mode in modes):
            return 1, f'{len(modes)} files that were looked at are grey; --channels 3 reads RGB'
        return 3, 'RGB; grey files are converted'
    for number in (1, 2, *range(4, MOST_CHANNELS + 1)):
        source = ImageFolder(root, channels=number)
        if any(can_read(source, place) for place in places):
            return number, f'the files hold {number}'
    source = ImageFolder(root, channels=3)
    source.load(places[0])  # raises with the reason
    raise AssertionError('an image can be read now that could not be before')


def can_read(source: ImageFolder, place: int) -> bool:
    """Whether an image is read."""
    try:
        source.load(place)
    except BadDataError:
        return False
    return True


def mode_of(source: ImageFolder, place: int) -> str:
    """Pillow's mode of an image; 'RGB' of a file that Pillow does not open."""
    try:
        with open_picture(source.content(place), source.suffix(place)) as picture:
            return picture.mode
    except (ValueError, OSError):
        return 'RGB'


def scale_of(stats: PixelStats) -> tuple[Scale, str]:
    """The rule for the values of these images, and why."""
    try:
        used = [range_warning(name, *stats.used_range()) for name in (*stats.parts, stats.dtype)]
    except ValueError:
        return 'percentile', f'{stats.dtype} has no range of its own'
    low, high = stats.used_range()
    if used[-1] and stats.dtype != 'uint8' and low < high:
        least, most = type_range(stats.dtype)
        return 'percentile', f'the values use {low:g} to {high:g} of {least} to {most}'
    return 'dtype', f'the range of {stats.dtype}'


def side_for(images: Images) -> tuple[int, str]:
    """Side of the images of a run, in pixels, and why."""
    side = next(side for least, side in SIDES.items() if images.short_side >= least)
    return side, f'the median short side in the folder is {images.short_side}'
