"""The losses of ``MIMHead`` without the full reconstruction, where the decoder is linear.

The spatial loss reads masked pixels alone: only their positions are decoded. The spectral loss
reads the mean of the batch alone, and decoding commutes with a mean: features are averaged over the
batch, and one image is decoded instead of B.

Axes: B batch, C channels of the features, (h, w) positions and P of them in a row, M masked ones,
s pixels of a side per position, c channels of the image.
"""

from typing import cast

import torch
from torch import Tensor, nn

from a2mim.masking import upsample_mask
from a2mim.models.decoder import PixelShuffleDecoder
from a2mim.models.losses import Criterion
from a2mim.models.mim_head import MIMHead
from a2mim.models.spectral_losses import FocalFrequencyLoss

# Share of the prediction in the fill of visible pixels; the rest is the target.
PREDICTED = {'target': 0.0, 'mixed': 0.5, 'prediction': 1.0}


def is_linear(neck: nn.Module, head: nn.Module) -> bool:
    """Whether ``losses`` can take the place of ``head.loss(neck(features), image, mask)``."""
    return (
        type(neck) is PixelShuffleDecoder
        and neck.projection.kernel_size == (1, 1)
        and isinstance(neck.activation, nn.Identity)
        and type(head) is MIMHead
        and head.target is None
        and head.visible_weight == 0
        and head.visible_fill in PREDICTED
        and isinstance(head.spatial, Criterion)
        and (
            head.spectral is None
            or (type(head.spectral) is FocalFrequencyLoss and head.spectral.average_spectrum)
        )
    )


def tiles(features: Tensor, mask: Tensor) -> bool:
    """Whether every position of ``features`` lies in one block of ``mask``."""
    return all(
        n % blocks == 0 for n, blocks in zip(features.shape[2:], mask.shape[1:], strict=True)
    )


def losses(
    neck: PixelShuffleDecoder,
    head: MIMHead,
    features: Tensor,
    image: Tensor,
    mask: Tensor,
    num_masked: int,
) -> dict[str, Tensor]:
    """What ``head.loss(neck(features), image, mask)`` returns, up to rounding.

    Args:
        neck: For which ``is_linear`` holds.
        head: As the neck.
        features: (B, C, h, w).
        image: (B, c, h · s, w · s), normalised.
        mask: A grid which ``tiles`` the features, 1 where masked.
        num_masked: Blocks that are masked in every image. A number of the host: reading it from
            ``mask`` would wait for the device.
    """
    features = neck.block(features)
    grid = (features.shape[2], features.shape[3])
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)  # (B, P, C)
    masked = upsample_mask(mask, grid).flatten(1)  # (B, P)
    num_positions = num_masked * masked.shape[1] // mask[0].numel()
    patches = cut(image, grid)  # (B, h, w, s, s, c)
    found = {'loss_spatial': spatial(neck, head, rows, masked, patches, num_positions)}
    if head.spectral is not None:
        with torch.autocast(image.device.type, enabled=False):
            found['loss_spectral'] = head.spectral.of_difference(
                mean_difference(neck, head, rows, masked, patches)
            )
    return found


def cut(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w, s, s, c) view of an image (B, c, h · s, w · s)."""
    by_row = image.permute(0, 2, 3, 1).unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1))
    return by_row.transpose(2, 3)


def spatial(
    neck: PixelShuffleDecoder,
    head: MIMHead,
    rows: Tensor,
    masked: Tensor,
    patches: Tensor,
    num_positions: int,
) -> Tensor:
    """Mean of the criterion over masked pixels, of which only those are decoded."""
    # Stable, so that positions stay in order.
    index = masked.sort(dim=1, descending=True, stable=True).indices[:, :num_positions]  # (B, M)
    chosen = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))  # (B, M, C)
    width = patches.shape[2]
    image_index = torch.arange(len(rows), device=rows.device)[:, None]
    target = patches[image_index, index // width, index % width]  # (B, M, s, s, c)
    error = head.spatial(as_patches(neck.project(chosen), target.shape[2:]), target)
    # 1e-5 as in the full form.
    return error.sum() / (error[..., 0].numel() + 1e-5) / error.shape[-1]


def mean_difference(
    neck: PixelShuffleDecoder, head: MIMHead, rows: Tensor, masked: Tensor, patches: Tensor
) -> Tensor:
    """Mean over the batch of composite minus target, (1, c, H, W), in float32 or float64."""
    rows, patches = precise(rows), precise(patches)
    share = masked.to(rows) * (1 - head.visible_leak) + head.visible_leak  # (B, P)
    predicted = PREDICTED[head.visible_fill]
    decoded = decode_mean(neck, rows, share)
    if predicted:
        with torch.no_grad():
            filled = predicted * decode_mean(neck, rows, 1 - share)
        decoded = decoded + filled
    # The target in the fill, less the target itself.
    factor = ((1 - share) * (1 - predicted) - 1).view(*patches.shape[:3], 1, 1, 1)
    # No matrix product, which may round to TF32: the target is exact.
    target = (factor * patches).sum(0) / len(rows)
    difference = as_patches(decoded, patches.shape[3:]).view_as(target) + target
    return difference.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)[None]


def decode_mean(neck: PixelShuffleDecoder, rows: Tensor, share: Tensor) -> Tensor:
    """Decode the mean over the batch of ``share · rows``: (P, c · s · s), bias in that share."""
    mean = torch.einsum('bp,bpc->pc', share, rows) / len(rows)
    weight, bias = (precise(cast(Tensor, x)) for x in neck.projection.parameters())
    return mean @ weight.flatten(1).t() + share.mean(0)[:, None] * bias


def as_patches(decoded: Tensor, patch: tuple[int, ...]) -> Tensor:
    """(…, c · s · s), in the order of pixel shuffle, to (…, s, s, c)."""
    side, _, channels = patch
    return decoded.unflatten(-1, (channels, side, side)).movedim(-3, -1)


def precise(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
