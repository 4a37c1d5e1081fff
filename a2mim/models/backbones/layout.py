"""Where channels, positions and extra tokens lie in what a timm module returns.

Axes: B batch, C channels, (H, W) features, L patch tokens, P prefix tokens (class, registers).
timm knows three layouts: (B, C, H, W), (B, H, W, C) and (B, P + L, C).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureLayout:
    """How to read the features at one place of one model.

    Attributes:
        channels: C.
        channel_axis: 1 for (B, C, H, W), -1 for the other two.
        grid: (H, W) for an image of ``image_size`` pixels.
        image_size: The pixels (height, width) that the layout was read with.
        num_prefix: P, 0 for maps.
        is_map: Whether positions have two axes.
    """

    channels: int
    channel_axis: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    num_prefix: int = 0
    is_map: bool = True

    @property
    def stride(self) -> int | tuple[int, int] | None:
        """Pixels per position; None where a position is no whole number of pixels."""
        if any(size % cells for size, cells in zip(self.image_size, self.grid, strict=True)):
            return None
        rows, columns = self.image_size[0] // self.grid[0], self.image_size[1] // self.grid[1]
        return rows if rows == columns else (rows, columns)

    def grid_at(self, features: Tensor, image_size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of these features of an image of ``image_size`` pixels.

        Raises:
            ValueError: If tokens do not form a grid of the image's shape.
        """
        if self.is_map:
            shape = features.shape[2:] if self.channel_axis == 1 else features.shape[1:3]
            return shape[0], shape[1]
        rows = image_size[0] * self.grid[0] // self.image_size[0]
        columns = image_size[1] * self.grid[1] // self.image_size[1]
        if self.num_prefix + rows * columns != features.shape[1]:
            raise ValueError(
                f'{features.shape[1]} tokens, {self.num_prefix} of them extra, are not the '
                f'{rows}×{columns} patches of an image of {image_size[0]}×{image_size[1]} pixels; '
                'give images of a size that the patches tile'
            )
        return rows, columns

    def split(self, features: Tensor) -> tuple[Tensor | None, Tensor]:
        """Separate prefix tokens, if there are any, from positions."""
        if self.num_prefix == 0:
            return None, features
        return features[:, : self.num_prefix], features[:, self.num_prefix :]

    def join(self, prefix: Tensor | None, features: Tensor) -> Tensor:
        """Undo ``split``."""
        return features if prefix is None else torch.cat([prefix, features], dim=1)

    def to_map(self, features: Tensor, image_size: tuple[int, int]) -> Tensor:
        """(B, C, H, W), without prefix tokens; a view wherever possible."""
        if self.is_map:
            return features if self.channel_axis == 1 else features.movedim(-1, 1)
        grid = self.grid_at(features, image_size)
        return self.split(features)[1].transpose(1, 2).unflatten(2, grid)


def read_layout(
    shape: tuple[int, ...],
    image_size: tuple[int, int],
    *,
    channels_last: bool,
    num_prefix_tokens: int,
) -> FeatureLayout:
    """Recognise the layout of features of this ``shape`` by their geometry.

    A grid must have the proportions of the image. Where (B, C, H, W) and (B, H, W, C) both fit,
    ``channels_last`` (timm's ``output_fmt``) decides; where two readings of a token sequence
    fit, nothing does.

    Args:
        shape: Of the features of one image, B = 1 first.
        image_size: (height, width) of the image, in pixels.
        channels_last: Whether the model prefers (B, H, W, C).
        num_prefix_tokens: Extra tokens of the model; they may join late (CaiT), or not at all.

    Raises:
        ValueError: If no reading fits, or several do.
    """
    readings: list[FeatureLayout] = []
    if len(shape) == 4 and shape[0] == 1:
        readings = [
            FeatureLayout(shape[axis], axis, grid, image_size)
            for axis, grid in ((1, shape[2:]), (-1, shape[1:3]))
            if _is_alike(grid, image_size)
        ]
        preferred = -1 if channels_last else 1
        readings.sort(key=lambda reading: reading.channel_axis != preferred)
        readings = readings[:1]
    elif len(shape) == 3 and shape[0] == 1:
        readings = [
            FeatureLayout(shape[2], -1, grid, image_size, prefix, is_map=False)
            for prefix in sorted({0, num_prefix_tokens})
            for grid in _rectangles(shape[1] - prefix)
            if _is_alike(grid, image_size)
        ]
    if len(readings) == 1:
        return readings[0]
    reason = 'can be read in more than one way' if readings else 'are no map and no token grid'
    raise ValueError(
        f'features of shape {tuple(shape)} for an image of {image_size[0]}×{image_size[1]} pixels, '
        f'which {reason}'
    )


def fitting_blocks(grid: tuple[int, int], image_size: tuple[int, int]) -> list[int]:
    """Sides of the square blocks, in pixels, that tile an image and unite whole features of it."""
    return [
        side
        for side in range(1, min(image_size) + 1)
        if all(
            size % side == 0 and cells % (size // side) == 0
            for size, cells in zip(image_size, grid, strict=True)
        )
    ]


def _rectangles(num_cells: int) -> list[tuple[int, int]]:
    """Every grid of ``num_cells`` cells."""
    return [(h, num_cells // h) for h in range(1, num_cells + 1) if num_cells % h == 0]


def _is_alike(grid: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of an image, give or take one cell of rounding."""
    (h, w), (height, width) = grid, image_size
    if height == width:
        return h == w
    return abs(h * width - w * height) <= max(height, width)
