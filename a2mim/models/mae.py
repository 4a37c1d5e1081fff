"""Masked autoencoders: encode the visible patches alone, decode all, compare the masked ones.

Axes: B batch, C channels of the image, (H, W) pixels, (h, w) mask blocks, L patches, V of them
visible, P prefix tokens (class, registers), D width.
"""

from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from a2mim.masking import fill_masked, upsample_mask
from a2mim.models.algorithm import MaskedModel, build_decoder
from a2mim.models.data_preprocessor import ImagePreprocessor
from a2mim.models.masked_decoding import cut
from a2mim.models.timm_backbone import build_backbone
from a2mim.models.timm_inspection import fitting_blocks
from a2mim.models.visible_tokens import VisibleTokens, pick
from a2mim.registry import MODELS, build_module
from a2mim.weights.load_model import InputSpec

RATIO = 0.75  # of the paper
FLAT = 1e-6  # added to the variance of a patch, as published


@MODELS.register_module()
class MAE(MaskedModel):
    """Pre-train a plain ViT by reconstructing the pixels of patches that its encoder never sees.

    Args:
        backbone: ``TimmBackbone`` of a ``VisionTransformer``, ``Beit`` or ``Eva`` of timm, without
            ``mask_after``; or such a network.
        neck: The ``MAEDecoder``; of a config, what depends on backbone and images follows.
        data_preprocessor: The ``ImagePreprocessor``.
        norm_target: Bring the pixels of each patch of the target to zero mean and unit variance.
            Pictures then have the mean and the contrast of each patch from the image.
        fixed_positions: Give absolute positions of the backbone the sine-cosine values of the paper
            and do not train them. False for a network that comes with its own.

    Shape:
        image: (B, C, H, W), normalised, of the size that the backbone is built for.
        mask: (B, h, w), 1 where masked, as many in every image.

    Raises:
        ValueError: If the backbone cannot leave patches out, or has a mask token; or a decoder that
            is an object is none.

    Reference:
        He et al., MAE, CVPR 2022 (https://arxiv.org/abs/2111.06377).
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
        *,
        norm_target: bool = True,
        fixed_positions: bool = True,
    ) -> None:
        super().__init__(build_module(data_preprocessor))
        if fixed_positions and isinstance(backbone, dict) and backbone.get('pretrained'):
            raise ValueError(
                'pretrained=True brings learned positions, which fixed_positions=True replaces: '
                'set fixed_positions=False'
            )
        self.backbone = build_backbone(backbone, self.data_preprocessor)
        if self.backbone.mask_after is not None:
            raise ValueError(
                f'mask_after={self.backbone.mask_after!r} is for a mask token, and MAE leaves '
                'masked patches out instead: take mask_after and mask_token out of the backbone'
            )
        self.visible = VisibleTokens(self.backbone)
        height, width = self.backbone.image_size
        stride = cast('int | tuple[int, int]', self.backbone.stride)
        self.patch = (stride, stride) if isinstance(stride, int) else stride
        self.grid = (height // self.patch[0], width // self.patch[1])
        self.num_patches = self.grid[0] * self.grid[1]
        self.norm_target = norm_target
        if fixed_positions:
            fix_positions(self.backbone.model, self.grid)
        self.input_spec = InputSpec(self.backbone.image_size, self.patch, RATIO)
        decoder = dict(
            in_channels=self.backbone.out_channels,
            num_prefix=self.visible.num_prefix,
            grid=self.grid,
            out_values=self.patch[0] * self.patch[1] * len(self.data_preprocessor.mean),
        )
        self.neck = build_decoder(neck, decoder)

    def loss(self, image: Tensor, mask: Tensor, num_masked: int | None = None) -> dict[str, Tensor]:
        """Mean squared error over the masked patches.

        Args:
            image: (B, C, H, W).
            mask: (B, h, w).
            num_masked: Masked blocks of every image; None reads it from ``mask``, which waits for
                the device.
        """
        order, num_visible = self.order(image, mask, num_masked)
        tokens = self.visible.encode(image, order[:, :num_visible])  # (B, P + V, D)
        predicted = self.neck(tokens, order, start=num_visible).float()  # (B, L - V, values)
        target = pick(self.target(image)[0], order[:, num_visible:])
        return {'loss_pixels': (predicted - target).square().mean()}

    @torch.no_grad()
    def predict(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct, and return the images (B, C, H, W) and the mask that a picture shows."""
        order, num_visible = self.order(image, mask)
        tokens = self.visible.encode(image, order[:, :num_visible])
        predicted = self.neck(tokens, order).float()  # (B, L, values)
        _, mean, deviation = self.target(image)
        patches = pick(predicted, order.argsort(dim=1)) * deviation + mean
        height, width = self.patch
        cells = patches.view(len(image), *self.grid, height, width, -1)  # (B, rows, columns, …, C)
        reconstruction = cells.permute(0, 5, 1, 3, 2, 4).reshape(image.shape)
        visible = fill_masked(image, mask)
        return dict(image=image, visible=visible, reconstruction=reconstruction, mask=mask)

    def target(self, image: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """Patches (B, L, values) to predict, and mean and deviation that bring them to pixels."""
        patches = cut(image, self.grid).flatten(1, 2).flatten(2)
        if not self.norm_target:
            return patches, 0.0, 1.0
        mean = patches.mean(dim=2, keepdim=True)
        deviation = (patches.var(dim=2, keepdim=True) + FLAT).sqrt()
        return (patches - mean) / deviation, mean, deviation

    def order(
        self, image: Tensor, mask: Tensor, num_masked: int | None = None
    ) -> tuple[Tensor, int]:
        """Indices (B, L) of the patches, visible ones first, and the number of these.

        Raises:
            ValueError: If image or mask do not fit, or no patch or every patch is masked.
        """
        if mask.ndim != 3 or len(mask) != len(image):
            raise ValueError(
                f'mask {tuple(mask.shape)} must be (B, h, w), B that of image {tuple(image.shape)}'
            )
        if num_masked is None:
            counts = mask.flatten(1).count_nonzero(dim=1).unique().tolist()
            if len(counts) > 1:
                raise ValueError(
                    f'from {min(counts)} to {max(counts)} blocks of an image are masked; MAE needs '
                    'as many in every image of a batch, as PatchMask makes'
                )
            num_masked = int(counts[0])
        blocks = (mask.shape[1], mask.shape[2])
        self.check_mask((image.shape[2], image.shape[3]), blocks, num_masked)
        patches = upsample_mask(mask, self.grid).flatten(1)
        num_visible = self.num_patches - num_masked * self.num_patches // (blocks[0] * blocks[1])
        return patches.sort(dim=1, stable=True).indices, num_visible

    def check_mask(
        self, image_size: tuple[int, int], blocks: tuple[int, int], num_masked: int
    ) -> None:
        """Check images and masks, of ``blocks`` (h, w); also called before the first step.

        Raises:
            ValueError: If the backbone is built for images of another size, the blocks are no whole
                patches, or all or none of them are masked.
        """
        if image_size != self.backbone.image_size:
            raise ValueError(
                f'images of {by(image_size)} pixels, but the backbone is built for '
                f'{by(self.backbone.image_size)}: set img_size of the backbone'
            )
        if self.grid[0] % blocks[0] or self.grid[1] % blocks[1]:
            fitting = ', '.join(map(str, fitting_blocks(self.grid, image_size))) or 'none'
            raise ValueError(
                f'a mask of {by(blocks)} blocks does not consist of whole patches of '
                f'{by(self.patch)} pixels; block sizes that fit: {fitting}'
            )
        total = blocks[0] * blocks[1]
        if not 0 < num_masked < total:
            what = 'nothing to predict' if num_masked < 1 else 'no visible patch'
            highest = (1000 - 1000 / total) // 1 / 1000  # rounded down: masks round up
            raise ValueError(
                f'{num_masked} of {total} mask blocks are masked, which leaves MAE {what}: choose '
                f'a ratio from {1 / total:.2g} to {highest:g}, in the paper {RATIO}'
            )


def by(size: tuple[int, int]) -> str:
    """For a message."""
    return f'{size[0]}×{size[1]}'


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """(L, width): sine and cosine of the column, then of the row, at width / 4 rates, as published.

    Raises:
        ValueError: If 4 does not divide ``width``.
    """
    if width % 4:
        raise ValueError(f'width={width} must be a multiple of 4 for sine-cosine positions')
    rates = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing='ij')
    angles = [place.flatten()[:, None] * rates for place in (columns, rows)]
    return torch.cat([of(angle) for angle in angles for of in (torch.sin, torch.cos)], 1).float()


@torch.no_grad()
def fix_positions(model: nn.Module, grid: tuple[int, int]) -> None:
    """Set absolute positions, where there are any, to ``sincos_positions``, 0 for prefix tokens."""
    positions = cast('nn.Parameter | None', getattr(model, 'pos_embed', None))
    if positions is not None:
        patches = sincos_positions(grid, positions.shape[2])
        positions[:, : -len(patches)] = 0
        positions[:, -len(patches) :] = patches
        positions.requires_grad_(False)


@MODELS.register_module()
class MAEDecoder(nn.Module):
    """The decoder of MAE: a narrow transformer on visible tokens and mask tokens.

    It needs no order of tokens, which carry their positions: visible ones come first throughout.

    Args:
        in_channels: Width of the encoder.
        grid: Patches of the image, (rows, columns).
        out_values: Values of a patch.
        num_prefix: P.
        width, depth, num_heads: Of the transformer.

    Shape:
        tokens: (B, P + V, in_channels).
        order: (B, L), indices of the patches, visible ones first.
        returns: (B, L - start, out_values), in this order, from the patch ``start`` of it on.

    Raises:
        ValueError: If ``num_heads`` or 4 does not divide ``width``.
    """

    def __init__(
        self,
        in_channels: int,
        grid: tuple[int, int],
        out_values: int,
        num_prefix: int,
        width: int = 512,
        depth: int = 8,
        num_heads: int = 16,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f'num_heads={num_heads} must divide width={width} of the decoder')
        self.num_prefix = num_prefix
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(in_channels, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions: Tensor
        self.register_buffer('positions', sincos_positions(grid, width), persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, qkv_bias=True, norm_layer=cast(Any, norm)) for _ in range(depth)
        )
        self.norm = norm(width)
        self.predict = nn.Linear(width, out_values)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, tokens: Tensor, order: Tensor, start: int = 0) -> Tensor:
        """Decode all patches, and predict those from ``start`` on."""
        tokens = self.embed(tokens)
        prefix, visible = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        masked = self.mask_token.expand(len(order), order.shape[1] - visible.shape[1], -1)
        patches = torch.cat([visible, masked], dim=1) + self.positions[order]
        tokens = torch.cat([prefix, patches], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens[:, self.num_prefix + start :]))
