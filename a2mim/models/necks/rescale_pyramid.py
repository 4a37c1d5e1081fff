"""A pyramid from the maps of a plain ViT, which all have one stride."""

from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from a2mim.registry import MODELS


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
