"""Targets of masked image modelling other than pixels: HOG and local binary patterns.

Computed on the device from the normalised batch. Axes: B batch, C channels, (H, W) pixels, N bins.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim.registry import MODELS

LUMA = (0.2125, 0.7154, 0.0721)  # of R, G, B as in scikit-image
EPSILON = 1e-5  # of scikit-image's block normalisation


class FeatureTarget(nn.Module, ABC):
    """Features that a head compares with a reconstruction, and how they are drawn.

    Args:
        mean, std: Of each channel, with which the images are normalised; ``A2MIM`` hands on those
            of its preprocessor. None takes the images for pixel values.

    Attributes:
        stride: Pixels per value of the features.

    Shape:
        image: (B, C, H, W).
        returns: (B, ``num_channels(C)``, H / stride, W / stride).
    """

    stride: int = 1

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError(f'mean={mean} and std={std}: give both, or neither for pixel values')
        self.step: float | None = None
        for name, values in (('mean', mean), ('std', std)):
            values = None if values is None else torch.tensor(values).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        if std is not None:
            self.step = 2.0 ** math.floor(math.log2(min(std) / 1000))

    @abstractmethod
    def num_channels(self, image_channels: int) -> int:
        """Channels of the features of images with so many."""

    def picture(self, features: Tensor, image: Tensor) -> Tensor:
        """Draw ``features`` as images (B, C, H, W) within the range of each ``image``."""
        low, high = (f(image.flatten(1), 1).view(-1, 1, 1, 1) for f in (torch.amin, torch.amax))
        return (low + self.brightness(features.float()) * (high - low)).expand_as(image)

    @abstractmethod
    def brightness(self, features: Tensor) -> Tensor:
        """The picture (B, 1, H, W) of ``features``, from 0 to 1."""

    def pixels(self, image: Tensor) -> Tensor:
        """Pixel values of a normalised image.

        They are multiples of about a thousandth of the standard deviation: equal pixels stay equal
        through the rounding of the normalisation, and whole numbers are whole again.
        """
        if self.step is None:
            return image.float() if image.dtype != torch.float64 else image
        pixels = image.float() * cast(Tensor, self.std) + cast(Tensor, self.mean)
        return (pixels / self.step).round() * self.step


@MODELS.register_module()
class HOGTarget(FeatureTarget):
    """Histograms of oriented gradients, those of the published data set.

    At every pixel the channel with the longest gradient votes with that length for its orientation;
    every cell has the mean of its votes, normalised by L2-Hys. It equals scikit-image's ``hog``
    with one cell per block.

    Args:
        orientations: Bins from 0 to 180 degrees, N.
        cell_size: Pixels of a side of a cell.
        mean, std: See ``FeatureTarget``.

    Shape:
        image: (B, C, H, W).
        returns: (B, N, H / cell_size, W / cell_size), from 0 to 1.

    Reference:
        Dalal and Triggs, Histograms of Oriented Gradients, CVPR 2005.
    """

    def __init__(
        self,
        orientations: int = 9,
        cell_size: int = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(mean, std)
        if orientations < 2 or cell_size < 1:
            raise ValueError(
                f'orientations={orientations} must be at least 2, cell_size={cell_size} at least 1'
            )
        self.orientations, self.stride = orientations, cell_size
        angles = (torch.arange(orientations) + 0.5) * math.pi / orientations
        self.register_buffer('strokes', self._strokes(angles), persistent=False)

    def num_channels(self, image_channels: int) -> int:
        """N, whatever the images have."""
        return self.orientations

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Normalised histograms of ``image``."""
        rows, columns = _central_differences(self.pixels(image))
        length = torch.hypot(rows, columns)
        strongest = length.argmax(dim=1, keepdim=True)
        rows, columns, length = (x.gather(1, strongest) for x in (rows, columns, length))
        histograms = self._histograms(torch.atan2(rows, columns), length)[:, 0]
        clipped = (histograms / _norm(histograms)).clamp(max=0.2)
        return clipped / _norm(clipped)

    def _histograms(self, angle: Tensor, votes: Tensor) -> Tensor:
        """(B, C, N, H / cell_size, W / cell_size), means of ``votes`` (B, C, H, W) per bin."""
        bins = (angle % math.pi * (self.orientations / math.pi)).floor() % self.orientations
        # Bin by bin: deterministic on GPUs, and the memory of one bin.
        counts = [
            F.avg_pool2d(torch.where(bins == index, votes, 0), self.stride)
            for index in range(self.orientations)
        ]
        return torch.stack(counts, dim=2)

    def brightness(self, features: Tensor) -> Tensor:
        """Strokes along the edges of every cell, as bright as their bins exceed the weakest one."""
        bins = features.unflatten(1, (-1, self.orientations)).mean(dim=1)
        bins = bins - bins.amin(dim=1, keepdim=True)
        strokes = cast(Tensor, self.strokes).to(bins)
        drawn = torch.einsum('bnhw,nij->bhiwj', bins, strokes).flatten(3).flatten(1, 2)[:, None]
        return drawn / drawn.amax(dim=(1, 2, 3), keepdim=True).clamp(min=EPSILON)

    def _strokes(self, angles: Tensor) -> Tensor:
        """(N, cell_size, cell_size), a line across the gradients of each bin."""
        place = torch.arange(self.stride) - (self.stride - 1) / 2
        row, column = place.view(1, -1, 1), place.view(1, 1, -1)
        angles = angles.view(-1, 1, 1)
        return (1 - (row * angles.sin() + column * angles.cos()).abs()).clamp(min=0)


@MODELS.register_module()
class MaskFeatTarget(HOGTarget):
    """Histograms of oriented gradients as in MaskFeat: Sobel gradients, one histogram per channel.

    The votes are weighted with a Gaussian window of ``2 * cell_size`` pixels, and every histogram
    has unit length.

    Args:
        orientations: Bins, N.
        cell_size: Pixels of a side of a cell.
        mean, std: See ``FeatureTarget``.

    Shape:
        image: (B, C, H, W), H and W multiples of ``2 * cell_size``.
        returns: (B, C · N, H / cell_size, W / cell_size), from 0 to 1, the bins of a channel
            beside each other.

    Reference:
        Wei et al., MaskFeat, CVPR 2022 (https://arxiv.org/abs/2112.09133).
    """

    def __init__(
        self,
        orientations: int = 9,
        cell_size: int = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(orientations, cell_size, mean, std)
        place = (torch.arange(2 * cell_size) - (2 * cell_size - 1) / 2) / cell_size
        window = torch.exp(-(place**2) / 2)
        window = window[:, None] * window
        self.register_buffer('window', window / window.sum(), persistent=False)

    def num_channels(self, image_channels: int) -> int:
        """N per channel of the images."""
        return image_channels * self.orientations

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Normalised histograms of ``image``."""
        rows, columns = _sobel(self.pixels(image))
        height, width = image.shape[-2:]
        window = cast(Tensor, self.window).to(rows)
        if height % len(window) or width % len(window):
            raise ValueError(
                f'images of {height}×{width} pixels must consist of windows of {len(window)}×'
                f'{len(window)}: twice cell_size={self.stride}'
            )
        votes = torch.hypot(rows, columns) * window.tile(
            height // len(window), width // len(window)
        )
        # Angles from the vertical, so that the bins are those of the reference.
        histograms = self._histograms(torch.atan2(columns, rows), votes)
        return F.normalize(histograms * self.stride**2, dim=2).flatten(1, 2)

    def _strokes(self, angles: Tensor) -> Tensor:
        """The lines of ``HOGTarget``, for angles from the vertical."""
        return super()._strokes(math.pi / 2 - angles)


@MODELS.register_module()
class LBPTarget(FeatureTarget):
    """Local binary patterns of the grey image, those of the published data set.

    A pixel is compared with ``points`` others on a circle. The code of a uniform pattern, one run
    of larger values, says where the run is and how long; all others share one code. It equals
    scikit-image's ``local_binary_pattern`` with ``method='nri_uniform'``, divided by the largest
    code of each image.

    Args:
        points: Neighbours on the circle, 2 to 16.
        radius: Of the circle, in pixels.
        mean, std: See ``FeatureTarget``.

    Shape:
        image: (B, C, H, W); three channels are R, G, B, the grey image of others is their mean.
        returns: (B, 1, H, W), from 0 to 1.

    Reference:
        Ojala et al., Multiresolution Gray-Scale and Rotation Invariant Texture Classification with
        Local Binary Patterns, PAMI 2002.
    """

    def __init__(
        self,
        points: int = 8,
        radius: float = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(mean, std)
        if not 2 <= points <= 16 or radius <= 0:
            raise ValueError(f'points={points} must be 2 to 16, and radius={radius} positive')
        self.radius = radius
        turns = [2 * math.pi * index / points for index in range(points)]
        # Rounded, so that points on the axes are pixels.
        self.circle = [
            (round(-radius * math.sin(turn), 5), round(radius * math.cos(turn), 5))
            for turn in turns
        ]
        codes = torch.tensor([_uniform_code(pattern, points) for pattern in range(2**points)])
        self.register_buffer('codes', codes.float(), persistent=False)

    def num_channels(self, image_channels: int) -> int:
        """One."""
        return 1

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Codes of ``image``."""
        pixels = self.pixels(image)
        if pixels.shape[1] == 3:
            grey = (pixels * torch.tensor(LUMA).to(pixels).view(3, 1, 1)).sum(1, keepdim=True)
        else:
            grey = pixels.mean(dim=1, keepdim=True)
        pattern = torch.zeros_like(grey, dtype=torch.long)
        for index, (row, column) in enumerate(self.circle):
            pattern += (_shifted(grey, row, column) >= grey).long() << index
        codes = cast(Tensor, self.codes)[pattern]
        return codes / codes.amax(dim=(1, 2, 3), keepdim=True)

    def brightness(self, features: Tensor) -> Tensor:
        """The codes themselves."""
        return features.clamp(0, 1)


def _central_differences(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Along rows and along columns, 0 at the border."""
    rows = F.pad(pixels[..., 2:, :] - pixels[..., :-2, :], (0, 0, 1, 1))
    columns = F.pad(pixels[..., 2:] - pixels[..., :-2], (1, 1))
    return rows, columns


def _sobel(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Along rows and along columns of the mirrored image, from larger to smaller index."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode='reflect')
    rows = padded[..., :-2, :] - padded[..., 2:, :]
    columns = padded[..., :-2] - padded[..., 2:]
    return (
        rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:],
        columns[..., :-2, :] + 2 * columns[..., 1:-1, :] + columns[..., 2:, :],
    )


def _norm(histograms: Tensor) -> Tensor:
    return (histograms.square().sum(dim=1, keepdim=True) + EPSILON**2).sqrt()


def _shifted(grey: Tensor, row: float, column: float) -> Tensor:
    """Bilinear values at ``(row, column)`` from every pixel, 0 outside of the image."""
    height, width = grey.shape[-2:]
    top, left = math.floor(row), math.floor(column)
    margin = max(abs(top), abs(left)) + 1
    padded = F.pad(grey, (margin,) * 4)

    def at(down: int, right: int) -> Tensor:
        return padded[..., margin + down :, margin + right :][..., :height, :width]

    # lerp of equal values is exact: flat regions have one code.
    upper = torch.lerp(at(top, left), at(top, left + 1), column - left)
    lower = torch.lerp(at(top + 1, left), at(top + 1, left + 1), column - left)
    return torch.lerp(upper, lower, row - top)


def _uniform_code(pattern: int, points: int) -> int:
    """Code of a pattern, bit i for point i: by length of its run of ones, then by its turn."""
    bits = [pattern >> index & 1 for index in range(points)]
    ones = sum(bits)
    if sum(bits[index] != bits[index - 1] for index in range(points)) > 2:
        return points * (points - 1) + 2
    if ones in (0, points):
        return 0 if ones == 0 else points * (points - 1) + 1
    # Turns that bring the run to the end of the sequence.
    turn = points - bits.index(1) if bits[0] == 0 else ones - bits.index(0)
    return 1 + (ones - 1) * points + turn
