"""Maps from several depths of a timm trunk, for images of any size: what a detector builds on.

Axes: B batch, C channels, (H, W) features.
"""

from collections.abc import Sequence

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn


class MultiScaleReader:
    """Reads a timm model at several depths through its own ``forward_intermediates``.

    The last norm of the model is applied to the map of its last depth, as in pre-training. Images
    that the patches do not tile are padded below and on the right. Absolute positions are resized
    to every image; tables of relative positions are for one size.

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
        patches = getattr(model, 'patch_embed', None)
        # A ViT with this switch resizes them itself.
        dynamic = getattr(model, 'dynamic_img_size', False)
        self._has_positions = getattr(model, 'pos_embed', None) is not None and not dynamic
        self._has_tables = any('relative_position' in name for name in model.state_dict())
        self._tiles = hasattr(patches, 'dynamic_feat_size')
        if self._tiles:
            patches.strict_img_size, patches.dynamic_img_pad = False, True

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode ``image`` (B, 3, height, width); return a (B, C, H, W) for each index.

        Raises:
            ValueError: If the model has tables of relative positions for another size.
        """
        resized = self._positions_for(image) if self._tiles else {}
        reading = _Reading(self.model)
        maps = torch.func.functional_call(reading, resized, (image, self.out_indices))
        if self._reads_end:
            maps[-1] = apply_last_norm(self.model, maps[-1])
        return tuple(maps)

    def _positions_for(self, image: Tensor) -> dict[str, Tensor]:
        patches = self.model.patch_embed
        own, grid = tuple(patches.grid_size), patches.dynamic_feat_size(image.shape[-2:])
        if tuple(grid) == own:
            return {}
        if self._has_tables:
            raise ValueError(
                f'{type(self.model).__name__} has tables of relative positions for {own[0]}×'
                f'{own[1]} patches, the image has {grid[0]}×{grid[1]}; set img_size to the size of '
                'all images, or use_rel_pos_bias=False to leave the tables out'
            )
        if not self._has_positions:
            return {}
        positions = self.model.pos_embed
        extra = positions.shape[1] - own[0] * own[1]
        resized = resample_abs_pos_embed(positions, list(grid), list(own), num_prefix_tokens=extra)
        return {'model.pos_embed': resized}


class _Reading(nn.Module):
    """``forward_intermediates`` as a ``forward``, whose parameters can be replaced for one pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, indices: list[int]) -> list[Tensor]:
        return self.model.forward_intermediates(
            image, indices=indices, output_fmt='NCHW', intermediates_only=True
        )


def apply_last_norm(model: nn.Module, features: Tensor) -> Tensor:
    """The layer norm that ``model`` ends with, if it has one, on maps (B, C, H, W)."""
    norm = getattr(model, 'norm', None) or getattr(getattr(model, 'head', None), 'norm', None)
    if not isinstance(norm, nn.LayerNorm):
        return features
    if '2d' in type(norm).__name__:  # timm's for maps
        return norm(features)
    return norm(features.movedim(1, -1)).movedim(-1, 1)
