"""SparK: masked image modelling with a convolutional network that runs on the visible blocks.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks or positions of a map, s pixels of a
side of a patch, the stride of the network.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.masking import upsample_mask
from a2mim.models.algorithm import MaskedModel, build_decoder
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.sparse_encoder import SparseBackbone
from a2mim.models.timm_backbone import TimmBackbone, build_backbone
from a2mim.models.visible_blocks import VisibleBlocks, hide, normalize
from a2mim.registry import MODELS, build_module
from a2mim.weights.load_model import InputSpec

PLAIN = ('TimmBackbone', 'a2mim.TimmBackbone', None)


@MODELS.register_module()
class SparK(MaskedModel):
    """Pre-train a convolutional network on visible blocks, by reconstructing the masked ones.

    The maps of all stages are filled at masked positions with a learnt embedding, and a light
    decoder makes an image of them. The target is each patch with zero mean and unit variance.

    Args:
        backbone: Config of a ``TimmBackbone`` without mask token, which becomes a
            ``SparseBackbone``; or that, or a network.
        neck: The ``UNetDecoder``; of a config ``stages`` follows from the backbone and
            ``out_channels`` from the number of means in ``data_preprocessor``.
        head: The ``MIMHead``; the published one has ``spatial=dict(type='MSELoss')`` alone.
        data_preprocessor: The ``ImagePreprocessor``.

    Shape:
        image: (B, C, H, W), normalised.
        mask: (B, h, w), 1 where masked; each block is one patch or several.

    Raises:
        ValueError: If the network is not convolutional, one of its layers has no masked form, or
            the head has a feature target.

    Reference:
        Tian et al., SparK, ICLR 2023 (https://arxiv.org/abs/2301.03580).
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
    ) -> None:
        super().__init__(build_module(data_preprocessor))
        if isinstance(backbone, dict) and backbone.get('type') in PLAIN:
            backbone = {**backbone, 'type': 'SparseBackbone'}
        elif isinstance(backbone, nn.Module) and not isinstance(backbone, TimmBackbone):
            backbone = SparseBackbone(backbone, in_chans=len(self.data_preprocessor.mean))
        encoder = build_backbone(backbone, self.data_preprocessor)
        if not isinstance(encoder, SparseBackbone):
            raise ValueError(
                f'SparK takes a model of timm, or a SparseBackbone around a network, and no '
                f'{type(encoder).__name__}'
            )
        self.backbone = encoder
        options = dict(stages=encoder.stages, out_channels=len(self.data_preprocessor.mean))
        self.side = encoder.stages[0][1]  # of a patch, in pixels
        self.neck = build_decoder(neck, options)
        batch_norm = any(isinstance(module, _BatchNorm) for module in encoder.modules())
        norms = [(nn.BatchNorm2d if batch_norm else LayerNorm2d)(c) for c, _ in encoder.stages]
        self.norms = nn.ModuleList(norms)
        self.head: Any = build_module(head)
        if getattr(self.head, 'target', None) is not None:
            raise ValueError(
                f'SparK reconstructs pixels: leave target={type(self.head.target).__name__} out of '
                'the head; A2MIM takes it'
            )
        self.input_spec = InputSpec(encoder.image_size)  # unless a config tells

    def check_mask(
        self, image_size: tuple[int, int], grid: tuple[int, int], num_masked: int
    ) -> None:
        """Check that a mask of ``grid`` (h, w) blocks fits, and leaves some of them visible.

        Raises:
            ValueError: If not.
        """
        if num_masked == grid[0] * grid[1]:
            raise ValueError(
                f'the mask hides all {num_masked} blocks, and SparK encodes the visible ones: set '
                'a smaller ratio (0.6 as published), or smaller blocks'
            )
        self.backbone.check_mask_grid(image_size, grid)

    def loss(self, image: Tensor, mask: Tensor, num_masked: int | None = None) -> dict[str, Tensor]:
        """Encode what is visible, fill, decode, compare; ``num_masked`` is not used."""
        mean, std = patch_statistics(image, self.side)
        return self.head.loss(self.decode(image, mask), (image - mean) / std, mask)

    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct, and return the images (B, C, H, W) and the mask that a picture shows.

        The network predicts each patch but for its mean and variance: the picture has those of
        the image itself.
        """
        mean, std = patch_statistics(image, self.side)
        reconstruction = self.decode(image, mask) * std + mean
        visible = hide(image, VisibleBlocks(mask).hidden(image))  # 0 is the mean colour
        return dict(image=image, visible=visible, reconstruction=reconstruction, mask=mask)

    def decode(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the network makes of the visible blocks: patches (B, C, H, W), normalised each."""
        maps, blocks = self.backbone.maps(image, mask), VisibleBlocks(mask)
        pairs = zip(self.norms, maps, strict=True)
        return self.neck([normalize(norm, x, blocks) for norm, x in pairs], mask)


def patch_statistics(image: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the patches of ``side`` pixels, over pixels and channels.

    Returns:
        Two images (B, 1, H, W), constant in each patch.
    """
    rows = image.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, h, s, w, s)
    var, mean = torch.var_mean(rows, (1, 3, 5))  # (B, h, w)
    std = (var + 1e-6).sqrt()
    size = (image.shape[2], image.shape[3])
    return upsample_mask(mean, size).unsqueeze(1), upsample_mask(std, size).unsqueeze(1)


@MODELS.register_module()
class UNetDecoder(nn.Module):
    """A light decoder on the maps of all stages, each of which doubles the grid.

    Masked positions of every map get the embedding of its stage. A convolution brings the map to
    the width of the decoder there, which halves with every doubling.

    Args:
        stages: Channels and strides of the maps, the coarsest first.
        width: Channels at the coarsest map, a multiple of the stride.
        out_channels: Channels of the image.

    Shape:
        maps: A map (B, C, H / stride, W / stride) for each of the ``stages``.
        mask: (B, h, w), 1 where masked.
        returns: (B, out_channels, H, W).

    Raises:
        ValueError: If ``width`` cannot be halved so often.

    Reference:
        Tian et al., SparK, ICLR 2023 (https://arxiv.org/abs/2301.03580), section 3.2.
    """

    def __init__(
        self, stages: Sequence[tuple[int, int]], width: int = 768, out_channels: int = 3
    ) -> None:
        super().__init__()
        stride = stages[0][1]
        if width < stride or width % stride:
            raise ValueError(
                f'width={width} of the decoder is halved from stride {stride} to 1; give a '
                f'multiple of {stride}, such as 768, the published one'
            )
        widths = {s: width * s // stride for _, s in stages}
        self.levels = [stride >> level for level in range(stride.bit_length() - 1)]
        self.maps = [s for _, s in stages]
        embeddings = [nn.Parameter(torch.empty(c, 1, 1)) for c, _ in stages]
        self.mask_embeddings = nn.ParameterList(embeddings)
        for embedding in embeddings:
            nn.init.trunc_normal_(embedding, std=0.02, a=-0.02, b=0.02)
        self.projections = nn.ModuleList(
            _projection(channels, widths[s], 1 if s == stride else 3) for channels, s in stages
        )
        self.blocks = nn.ModuleList(_double(width * s // stride) for s in self.levels)
        self.projection = nn.Conv2d(width // stride, out_channels, 1)
        for module in [*self.blocks.modules(), self.projection]:
            _initialize(module)

    def forward(self, maps: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Fill the maps, and decode them into an image."""
        dense = {}
        parts = zip(self.maps, maps, self.mask_embeddings, self.projections, strict=True)
        for stride, features, embedding, projection in parts:
            hidden = upsample_mask(mask, (features.shape[2], features.shape[3])).bool()
            filled = torch.where(hidden.unsqueeze(1), embedding.to(features.dtype), features)
            dense[stride] = projection(filled)
        x = dense[self.levels[0]]
        for stride, block in zip(self.levels, self.blocks, strict=True):
            x = block(x + dense[stride] if stride in self.maps[1:] else x)
        return self.projection(x)


def _projection(channels: int, width: int, kernel: int) -> nn.Module:
    if kernel == 1 and channels == width:
        return nn.Identity()
    return nn.Conv2d(channels, width, kernel, padding=kernel // 2)


def _double(width: int) -> nn.Module:
    """Twice the grid, half of the channels."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(inplace=True),
        nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
    )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.1, b=0.1)
    elif isinstance(module, nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
