"""Maps from several depths of a timm trunk, for images of any size: what a detector builds on.

Axes: B batch, C channels, (H, W) features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from a2mim.models.backbones.image_positions import ImagePositions


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
