"""The decoder: a convolution, then pixel shuffle from features to an image.

Axes: B batch, C channels, (H, W) pixels.
"""

from typing import cast

from timm.layers.create_act import create_act_layer
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from a2mim.registry import MODELS


@MODELS.register_module()
class PixelShuffleDecoder(nn.Module):
    """The decoder of the paper, which leaves the work to the backbone.

    A convolution predicts ``stride² · out_channels`` values at every position, which become its
    ``stride × stride`` pixels, or values of another target.

    Args:
        in_channels: Width of the features.
        stride: Pixels (values of the target) per position.
        out_channels: Channels of the image (the target).
        kernel_size: Of the convolution, odd.
        block: Config of a module of the same width before the convolution (an ablation); the
            decoder adds ``channels``.
        activation: timm's name of an activation of the pixels, such as ``'sigmoid'``.

    Shape:
        features: (B, in_channels, H / stride, W / stride).
        returns: (B, out_channels, H, W).

    Raises:
        ValueError: If ``stride`` is not a positive integer, ``kernel_size`` is even, or the
            features have another width.

    Reference:
        Xie et al., SimMIM, CVPR 2022 (https://arxiv.org/abs/2111.09886), section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        out_channels: int = 3,
        kernel_size: int = 1,
        block: dict | None = None,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(
                f'stride={stride!r} must be a whole number of pixels, the same in both directions'
            )
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size} must be odd, or the grid would change')
        self.in_channels = in_channels
        self.stride = stride
        self.block = MODELS.build({**block, 'channels': in_channels}) if block else nn.Identity()
        self.projection = nn.Conv2d(
            in_channels, out_channels * stride**2, kernel_size, padding=kernel_size // 2
        )
        # Cut at 5 standard deviations: the cut at ±2 of the reference implementation lets rare
        # weights of exactly ±2 through.
        nn.init.trunc_normal_(self.projection.weight, std=0.02, a=-0.1, b=0.1)
        nn.init.zeros_(cast(Tensor, self.projection.bias))
        self.activation = nn.Identity()
        if activation is not None:
            self.activation = cast(nn.Module, create_act_layer(activation))

    def forward(self, features: Tensor) -> Tensor:
        """Decode ``features`` into an image."""
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f'the decoder expects in_channels={self.in_channels}, the backbone gives '
                f'{features.shape[1]} channels'
            )
        features = self.block(features)
        if self.projection.kernel_size == (1, 1):
            pixels = self.project(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        else:
            pixels = self.projection(features)
        return self.activation(F.pixel_shuffle(pixels, self.stride))

    def project(self, features: Tensor) -> Tensor:
        """(…, in_channels) to (…, stride² · out_channels): the convolution, where it is 1×1."""
        return F.linear(features, self.projection.weight.flatten(1), self.projection.bias)


@MODELS.register_module()
class DepthwiseBlock(nn.Module):
    """A 5×5 depth-wise convolution, a LayerNorm over channels and a GELU, for an ablation.

    Args:
        channels: C.

    Shape:
        features: (B, C, H, W).
        returns: The same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.norm = LayerNorm2d(channels, eps=1e-5)
        self.activation = nn.GELU()
        nn.init.trunc_normal_(self.conv.weight, std=0.02, a=-0.1, b=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Mix neighbouring positions of each channel."""
        return self.activation(self.norm(self.conv(features)))
