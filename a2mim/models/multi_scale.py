"""Maps from several depths of a timm trunk, for images of any size: what a detector builds on.

Axes: B batch, C channels, (H, W) features.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from timm.layers import LayerNorm2d, resample_abs_pos_embed
from torch import Tensor, nn

from a2mim.registry import MODELS

# [image_positions]
# Positions of a timm model for images of another size than its own, for one pass at a time.
#
# Most families of timm do this themselves. Those with positions for one grid of patches, as BEiT,
# are served here; their parameters stay what they are.


TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'
# Rows of a table for the pairs with the class token: to it, from it, with itself.
CLASS_PAIRS = 3
Grid = tuple[int, int]


class ImagePositions:
    """What has to be replaced in a model while it encodes an image of other proportions.

    The embedding is interpolated, by timm's rule. In tables of relative positions every distance
    keeps its entry, and a distance beyond the table takes that of the farthest one in it.

    Args:
        model: A timm model with patches; its positions are for ``patch_embed.grid_size``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.own: Grid = tuple(model.patch_embed.grid_size)
        self.tables = {
            name: module
            for name, module in model.named_modules()
            if getattr(module, TABLE, None) is not None
        }

    def at(self, grid: Grid) -> dict[str, Tensor]:
        """Parameters and buffers for (rows, columns) of patches, by their names in the model.

        Raises:
            ValueError: If tables are not for all pairs of patches, or are read once more in the
                backward pass.
        """
        if grid == self.own:
            return {}
        replaced = {}
        positions = getattr(self.model, 'pos_embed', None)
        if positions is not None:
            extra = positions.shape[1] - self.own[0] * self.own[1]
            replaced['pos_embed'] = resample_abs_pos_embed(
                positions, list(grid), list(self.own), num_prefix_tokens=extra
            )
        if self.tables:
            self._check_tables(grid)
            device = next(self.model.parameters()).device
            index = distance_index(self.own, grid, device)
            replaced |= {f'{name}.{INDEX}': index for name in self.tables}
        return replaced

    @contextmanager
    def windows(self, grid: Grid) -> Iterator[None]:
        """Let the tables be read for ``grid`` within the block."""
        self._set_windows(grid)
        try:
            yield
        finally:
            self._set_windows(self.own)

    def _set_windows(self, grid: Grid) -> None:
        for module in self.tables.values():
            module.window_size = grid
            if hasattr(module, 'window_area'):  # the one table that all blocks of BEiT share
                module.window_area = grid[0] * grid[1]

    def _check_tables(self, grid: Grid) -> None:
        pairs = (2 * self.own[0] - 1) * (2 * self.own[1] - 1) + CLASS_PAIRS
        astray = [n for n, module in self.tables.items() if len(getattr(module, TABLE)) != pairs]
        reason = f'the table of {astray[0]} is for windows' if astray else None
        # Checkpointing runs the blocks again in the backward pass, when the index is gone.
        if getattr(self.model, 'grad_checkpointing', False) and torch.is_grad_enabled():
            reason = 'grad_checkpointing is on'
        if reason:
            raise ValueError(
                f'{type(self.model).__name__} has tables of relative positions for '
                f'{self.own[0]}×{self.own[1]} patches, the image has {grid[0]}×{grid[1]}, and '
                f'{reason}: set img_size to the size of all images'
            )


def distance_index(own: Grid, grid: Grid, device: torch.device | None = None) -> Tensor:
    """Rows of BEiT's table for ``own`` (rows, columns) of patches, for all pairs of ``grid``.

    Returns:
        (1 + H * W, 1 + H * W), the class token first.
    """
    rows, columns = (
        axis.flatten()
        for axis in torch.meshgrid(
            *(torch.arange(length, device=device) for length in grid), indexing='ij'
        )
    )
    (down, right), width = (length - 1 for length in own), 2 * own[1] - 1
    vertical = (rows[:, None] - rows).clamp(-down, down) + down
    horizontal = (columns[:, None] - columns).clamp(-right, right) + right
    index = nn.functional.pad(vertical * width + horizontal, (1, 0, 1, 0))
    pairs = (2 * own[0] - 1) * width
    index[0, :], index[:, 0], index[0, 0] = pairs, pairs + 1, pairs + 2
    return index


class MultiScaleReader:
    """Reads a timm model at several depths through its own ``forward_intermediates``.

    The last norm of the model is applied to the map of its last depth, as in pre-training, and to
    no other. Images that the patches do not tile are padded below and on the right, and positions
    are fitted to every image: by timm, or by ``ImagePositions``.

    Args:
        model: The timm model; no part of the reader, so that names of its weights stay.
        out_indices: Indices into its ``feature_info``: stages from the stem up, or blocks.

    Attributes:
        out_channels, stride: For each index, C and the pixels of one position.

    Raises:
        ValueError: If the model has no such depth.
    """

    def __init__(self, model: nn.Module, out_indices: Sequence[int]) -> None:
        depths = list(getattr(model, 'feature_info', []))
        if not hasattr(model, 'forward_intermediates') or not depths:
            raise ValueError(f'timm reads {type(model).__name__} at its end only; no out_indices')
        indices = list(out_indices)
        if not indices or indices != sorted(set(indices) & set(range(len(depths)))):
            raise ValueError(
                f'out_indices={tuple(out_indices)} must rise within 0 to {len(depths) - 1}, the '
                f'depths of {type(model).__name__}'
            )
        self.model = model
        self.out_indices = indices
        self.out_channels = tuple(depths[index]['num_chs'] for index in indices)
        self.stride = tuple(depths[index]['reduction'] for index in indices)
        self._reads_end = indices[-1] == len(depths) - 1
        self._positions = None
        patches = getattr(model, 'patch_embed', None)
        if hasattr(patches, 'dynamic_img_pad'):
            patches.strict_img_size, patches.dynamic_img_pad = False, True
            if not getattr(model, 'dynamic_img_size', False):
                self._positions = ImagePositions(model)

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode ``image`` (B, 3, height, width); return a (B, C, H, W) for each index.

        Raises:
            ValueError: If the model has positions that do not fit such an image.
        """
        if self._positions is None:
            maps = read_maps(self.model, image, self.out_indices)
        else:
            maps = self._read_at_its_size(image)
        if self._reads_end:
            maps[-1] = apply_last_norm(self.model, maps[-1])
        return tuple(maps)

    def _read_at_its_size(self, image: Tensor) -> list[Tensor]:
        grid = tuple(self.model.patch_embed.dynamic_feat_size(image.shape[-2:]))
        replaced = self._positions.at(grid)
        if not replaced:
            return read_maps(self.model, image, self.out_indices)
        named = {f'model.{name}': tensor for name, tensor in replaced.items()}
        with self._positions.windows(grid):
            reading = _Reading(self.model)
            return torch.func.functional_call(reading, named, (image, self.out_indices))


class _Reading(nn.Module):
    """``read_maps`` as a module, whose parameters can be replaced for one pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, indices: list[int]) -> list[Tensor]:
        return read_maps(self.model, image, indices)


def read_maps(model: nn.Module, image: Tensor, indices: list[int]) -> list[Tensor]:
    """What a timm model makes of ``image`` at its depths ``indices``, as (B, C, H, W)."""
    return model.forward_intermediates(
        image, indices=indices, stop_early=True, output_fmt='NCHW', intermediates_only=True
    )


def apply_last_norm(model: nn.Module, features: Tensor) -> Tensor:
    """The layer norm that ``model`` ends with, if it has one, on maps (B, C, H, W)."""
    norm = getattr(model, 'norm', None) or getattr(getattr(model, 'head', None), 'norm', None)
    if not isinstance(norm, nn.LayerNorm):
        return features
    if '2d' in type(norm).__name__:  # timm's for maps
        return norm(features)
    return norm(features.movedim(1, -1)).movedim(-1, 1)


# [rescale_pyramid]
# A pyramid from the maps of a plain ViT, which all have one stride.


@MODELS.register_module()
class RescalePyramid(nn.Module):
    """Bring one map each to a finer or coarser grid; patches of 16 pixels make strides 4 to 32.

    Transposed convolutions refine by 4 and by 2, a maximum of 2 by 2 positions coarsens.

    Args:
        embed_dim: C of every map.
        scales: For each map, the factor on H and W: 4, 2, 1 or 0.5.

    Shape:
        maps: A (B, C, H, W) for each scale.
        returns: A (B, C, H * scale, W * scale) for each.

    Raises:
        ValueError: If a scale is none of those.

    Reference:
        Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022
        (https://arxiv.org/abs/2203.16527).
    """

    def __init__(self, embed_dim: int, scales: Sequence[float] = (4, 2, 1, 0.5)) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_rescale(embed_dim, scale) for scale in scales)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Rescale every map by its own factor."""
        return tuple(level(item) for level, item in zip(self.levels, maps, strict=True))


def _rescale(channels: int, scale: float) -> nn.Module:
    if scale == 4:
        return nn.Sequential(_double(channels), LayerNorm2d(channels), nn.GELU(), _double(channels))
    if scale == 2:
        return _double(channels)
    if scale == 1:
        return nn.Identity()
    if scale == 0.5:
        return nn.MaxPool2d(2)
    raise ValueError(f'scale {scale} of a pyramid must be 4, 2, 1 or 0.5')


def _double(channels: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
