"""Multi-scale features of a timm model for detectors, from images of any size.

Axes: B batch, C channels, (H, W) features.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from a2mim.interfaces import TimmNetwork
from a2mim.registry import MODELS

TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'
# Rows of a table for the pairs with the class token: to it, from it, and of it with itself.
CLASS_PAIRS = 3
Grid = tuple[int, int]


class ImagePositions:
    """Fit the positions of a timm model to the image size, for one pass at a time.

    Most families of timm do this themselves; this class serves those with positions for one grid
    of patches, such as BEiT, and leaves their parameters as they are. The embedding is interpolated
    as in timm. In tables of relative positions every distance keeps its entry; a distance beyond
    the table takes the entry of the largest one.

    Args:
        model: A timm model with patches; its positions are for ``patch_embed.grid_size``.
    """

    def __init__(self, model: TimmNetwork) -> None:
        self.model = model
        rows, columns = model.patch_embed.grid_size
        self.own: Grid = (rows, columns)
        self.tables: dict[str, Any] = {
            name: module
            for name, module in model.named_modules()
            if getattr(module, TABLE, None) is not None
        }

    def at(self, grid: Grid) -> dict[str, Tensor]:
        """Parameters and buffers for (rows, columns) of patches, by their names in the model.

        Raises:
            ValueError: If tables are not for all pairs of patches, or gradient checkpointing
                reads them again in the backward pass.
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
        """Context manager in which the tables are read for ``grid``."""
        self._set_windows(grid)
        try:
            yield
        finally:
            self._set_windows(self.own)

    def _set_windows(self, grid: Grid) -> None:
        for module in self.tables.values():
            module.window_size = grid
            if hasattr(module, 'window_area'):  # one table for all blocks of BEiT
                module.window_area = grid[0] * grid[1]

    def _check_tables(self, grid: Grid) -> None:
        pairs = (2 * self.own[0] - 1) * (2 * self.own[1] - 1) + CLASS_PAIRS
        windowed = [n for n, module in self.tables.items() if len(getattr(module, TABLE)) != pairs]
        reason = f'the table of {windowed[0]} is for windows' if windowed else None
        # Checkpointing runs the blocks again in the backward pass, without the index.
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
    """Returns the maps of several depths of a timm model, by its ``forward_intermediates``.

    The last norm of the model is applied to the map of its last depth only, as in pre-training.
    Images that the patches do not tile are padded below and on the right, and positions are fitted
    to every image: by timm, or by ``ImagePositions``.

    Args:
        model: The timm model. The reader is not a module, so that names of weights do not change.
        out_indices: Indices into its ``feature_info``: stages from the stem up, or blocks.

    Attributes:
        out_channels, stride: For each index, C and the pixels per position.

    Raises:
        ValueError: If the model has no such depth.
    """

    def __init__(self, model: TimmNetwork, out_indices: Sequence[int]) -> None:
        depths = list(getattr(model, 'feature_info', []))
        if not hasattr(model, 'forward_intermediates') or not depths:
            raise ValueError(
                f'timm returns the last features of {type(model).__name__} only; no out_indices'
            )
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
        self._positions: ImagePositions | None = None
        patches: Any = getattr(model, 'patch_embed', None)
        if hasattr(patches, 'dynamic_img_pad'):
            patches.strict_img_size, patches.dynamic_img_pad = False, True
            if not getattr(model, 'dynamic_img_size', False):
                self._positions = ImagePositions(model)

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode ``image`` (B, 3, height, width); return a map (B, C, H, W) for each index.

        Raises:
            ValueError: If the positions of the model do not fit such an image.
        """
        if self._positions is None:
            maps = read_maps(self.model, image, self.out_indices)
        else:
            maps = self._read_fitted(image, self._positions)
        if self._reads_end:
            maps[-1] = apply_last_norm(self.model, maps[-1])
        return tuple(maps)

    def _read_fitted(self, image: Tensor, positions: ImagePositions) -> list[Tensor]:
        rows, columns = self.model.patch_embed.dynamic_feat_size(image.shape[-2:])
        replaced = positions.at((rows, columns))
        if not replaced:
            return read_maps(self.model, image, self.out_indices)
        named = {f'model.{name}': tensor for name, tensor in replaced.items()}
        with positions.windows((rows, columns)):
            reading = _Reading(self.model)
            return torch.func.functional_call(reading, named, (image, self.out_indices))


class _Reading(nn.Module):
    """``read_maps`` as a module, whose parameters ``functional_call`` replaces."""

    def __init__(self, model: TimmNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, indices: list[int]) -> list[Tensor]:
        return read_maps(self.model, image, indices)


def read_maps(model: TimmNetwork, image: Tensor, indices: list[int]) -> list[Tensor]:
    """Maps (B, C, H, W) of a timm model at its depths ``indices``."""
    return model.forward_intermediates(
        image, indices=indices, stop_early=True, output_fmt='NCHW', intermediates_only=True
    )


def apply_last_norm(model: nn.Module, features: Tensor) -> Tensor:
    """Apply the last layer norm of ``model``, if it has one, to maps (B, C, H, W)."""
    norm = getattr(model, 'norm', None) or getattr(getattr(model, 'head', None), 'norm', None)
    if not isinstance(norm, nn.LayerNorm):
        return features
    if '2d' in type(norm).__name__:  # timm's for maps
        return norm(features)
    return norm(features.movedim(1, -1)).movedim(-1, 1)


@MODELS.register_module()
class RescalePyramid(nn.Module):
    """Rescale the maps of a plain ViT, which have one stride, to a pyramid: 16 to 4, 8, 16 and 32.

    Transposed convolutions upsample by 4 and by 2; max pooling downsamples by 2.

    Args:
        embed_dim: C of every map.
        scales: For each map, the factor on H and W: 4, 2, 1 or 0.5.

    Shape:
        maps: A map (B, C, H, W) for each scale.
        returns: A map (B, C, H * scale, W * scale) for each.

    Raises:
        ValueError: If there is another scale.

    Reference:
        Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022
        (https://arxiv.org/abs/2203.16527).
    """

    def __init__(self, embed_dim: int, scales: Sequence[float] = (4, 2, 1, 0.5)) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_rescale(embed_dim, scale) for scale in scales)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Rescale each map by its factor."""
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
