"""Which numbers of a file are the image: types of pixels, pages, bands and values that are missing.

Axes: C channels, (H, W) pixels; in files also S samples of a pixel, Q pages of an unknown meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

# Types of pixels that are kept from the file to the device.
TYPES = ('uint8', 'uint16', 'int16', 'int32', 'float16', 'float32')
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601), as in Pillow


@dataclass(frozen=True)
class Layout:
    """What to take from a file that holds more than one image of C channels.

    Attributes:
        bands: Numbers of the bands to take, from 0, in the order of the channels: ``(3, 2, 1)``.
        page: Number of the page to take, from 0.
        axes: Letter of each axis of an array or a TIFF file, such as 'YXC' or 'ZYX': Y and X are
            rows and columns, and the bands run over all others. None guesses.
        nodata: Value that marks a missing pixel, beside NaN and the number that a GeoTIFF states.

    Raises:
        ValueError: If a number is negative, or ``axes`` has not Y and X once each.
    """

    bands: tuple[int, ...] | None = None
    page: int | None = None
    axes: str | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if min(self.bands or (0,)) < 0 or (self.page or 0) < 0:
            raise ValueError(f'bands={self.bands} and page={self.page} are counted from 0')
        if self.axes is not None and (
            len({*self.axes}) < len(self.axes) or not {*'YX'} <= {*self.axes}
        ):
            raise ValueError(
                f'axes={self.axes!r} must name each axis by a letter of its own, rows by Y and '
                "columns by X, such as 'YXC' or 'ZYX'"
            )

    @property
    def whole(self) -> bool:
        """Whether all bands are taken, in axes that are guessed."""
        return self.bands is None and self.axes is None

    @classmethod
    def of(
        cls,
        channels: int,
        bands: Sequence[int] | None,
        page: int | None,
        axes: str | None,
        nodata: float | None,
    ) -> 'Layout':
        """The layout of images of C channels; a ValueError unless each has a band."""
        if bands is not None and len(bands) != channels:
            raise ValueError(f'bands={list(bands)} are {len(bands)}, channels={channels}')
        return cls(None if bands is None else tuple(bands), page, axes, nodata)


PLAIN = Layout()


class Stored(NamedTuple):
    """The values of a file before its bands are chosen.

    Attributes:
        values: The array, in the axes of the file.
        axes: A letter for each axis as far as the file says, None if it says nothing.
        colour: Whether grey may become RGB and three bands, which are red, green and blue, grey.
        nodata: The value that marks missing pixels.
        orientation: EXIF orientation, 1 to 8.
        sure: Whether the axes are beyond doubt, as those of a picture.
    """

    values: np.ndarray
    axes: str | None = None
    colour: bool = False
    nodata: float | None = None
    orientation: int = 1
    sure: bool = False


def check_type(dtype: np.dtype | type | None) -> None:
    """Raise a ValueError for a type of pixels that is not among ``TYPES``."""
    name = 'of an unknown type' if dtype is None else np.dtype(dtype).newbyteorder('=').name
    if name not in TYPES:
        raise ValueError(f'its values are {name}; write them as one of {", ".join(TYPES)}')


def image_of(stored: Stored, channels: int, layout: Layout) -> tuple[np.ndarray, int]:
    """The image of a file, (C, H, W), and the number of missing values in it that were filled.

    Raises:
        ValueError: If the file holds another number of bands or pages than ``channels``, or a band
            without any value.
    """
    values, axes, colour, nodata, orientation, sure = stored
    check_type(values.dtype)
    if values.size == 0:
        raise ValueError(f'its array has shape {values.shape}, which has no pixel')
    values = values.astype(values.dtype.newbyteorder('='), copy=False)
    bands, axes = _bands_first(
        values, axes, channels, replace(layout, axes=None) if sure else layout
    )
    if layout.bands is not None:
        if max(layout.bands) >= len(bands):
            raise ValueError(
                f'it has {len(bands)} bands or pages, and bands={list(layout.bands)} asks for '
                f'number {max(layout.bands)}, counted from 0 ({_described(values, axes)})'
            )
        bands = bands[list(layout.bands)]
    missing = layout.nodata if layout.nodata is not None else nodata
    bands, filled = fill_missing(bands, missing)
    if colour and len(bands) == 1 and channels == 3:
        bands = bands.repeat(3, axis=0)
    elif colour and len(bands) == 3 and channels == 1:
        bands = to_grey(bands)
    if len(bands) != channels:
        raise ValueError(
            f'it has {len(bands)} bands or pages, {channels} asked ({_described(values, axes)}); '
            f'set channels={len(bands)}, or choose with bands=[…], page= or axes= of the source'
        )
    return upright(bands, orientation), filled


def _described(values: np.ndarray, axes: str) -> str:
    return f'its array has shape {values.shape}, axes guessed {axes}'


def _bands_first(
    values: np.ndarray, axes: str | None, channels: int, layout: Layout
) -> tuple[np.ndarray, str]:
    """The array as (bands, H, W), and a letter for each of its axes."""
    if layout.axes is not None:
        if len(layout.axes) != values.ndim:
            raise ValueError(f'axes={layout.axes!r} do not fit its array of shape {values.shape}')
        axes = layout.axes
    elif axes is None or values.ndim == 3:
        axes = _guess(values.shape, axes, channels if layout.bands is None else None)
    others = [place for place, letter in enumerate(axes) if letter not in 'YX']
    several = [place for place in others if values.shape[place] > 1]
    if layout.axes is None and len(several) > 1:
        raise ValueError(
            f'it has {" × ".join(str(values.shape[place]) for place in several)} bands or pages, '
            f'{channels} asked ({_described(values, axes)}); choose with page= or axes= of the '
            'source'
        )
    rows, columns = axes.index('Y'), axes.index('X')
    moved = values.transpose(*others, rows, columns)
    return moved.reshape(-1, *moved.shape[-2:]), axes


def _guess(shape: tuple[int, ...], axes: str | None, channels: int | None) -> str:
    """Letters of axes: bands are first or last, where there are as many as asked for."""
    if len(shape) < 2:
        raise ValueError(f'its array has shape {shape}, which is no image')
    if len(shape) != 3:
        return 'QRSTUVW'[: len(shape) - 2] + 'YX'
    last, first = 'YXC', 'CYX'
    if shape[-1] == channels:
        return last
    if shape[0] == channels:
        return first
    if axes is not None and axes.index('X') - axes.index('Y') == 1:
        return axes
    return last if shape[-1] <= shape[0] else first


def to_grey(bands: np.ndarray) -> np.ndarray:
    """(1, H, W) of (3, H, W), which are red, green and blue."""
    grey = np.tensordot(np.array(LUMA), bands.astype(np.float64), axes=1)[None]
    return (grey.round() if bands.dtype.kind in 'iu' else grey).astype(bands.dtype)


def fill_missing(bands: np.ndarray, nodata: float | None) -> tuple[np.ndarray, int]:
    """Set missing values to the mean of the others of their band; count them.

    Before the image is resized: a missing value would spread, and a number such as -9999 would be
    mixed with its neighbours.

    Args:
        bands: (C, H, W). Values that are not finite are missing.
        nodata: A number that marks missing values too.

    Raises:
        ValueError: If a band has no value.
    """
    missing = None
    if bands.dtype.kind == 'f':
        missing = ~np.isfinite(bands)
    if nodata is not None and np.isfinite(nodata):
        same = bands == (
            np.float64(nodata) if bands.dtype.kind != 'f' else bands.dtype.type(nodata)
        )
        missing = same if missing is None else missing | same
    if missing is None or not missing.any():
        return bands, 0
    bands = bands.copy()
    for number, (band, gaps) in enumerate(zip(bands, missing, strict=True)):
        if gaps.all():
            raise ValueError(f'band {number} has no value: each is NaN, infinite or nodata')
        if gaps.any():
            mean = band[~gaps].mean(dtype=np.float64)
            band[gaps] = round(mean) if band.dtype.kind in 'iu' else mean
    return bands, int(missing.sum())


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (C, H, W) as an EXIF orientation says."""
    if orientation >= 5:  # stored by columns
        image = image.transpose(0, 2, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[:, ::-1]
    return image
