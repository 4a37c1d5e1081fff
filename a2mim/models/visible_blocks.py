"""The visible blocks of images: which positions of a map are masked, and norms over the others.

Axes: B batch, C channels, G groups of them, (H, W) positions of a map, N of all images, (h, w) mask
blocks. Nothing is read from the device: what is masked is 0, and sums are divided by counts.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.masking import upsample_mask


class VisibleBlocks:
    """A mask (B, h, w), 1 where masked, and what the layers of one pass need of it."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._hidden: dict[tuple[int, int], Tensor] = {}
        self._visible = (mask == 0).flatten(1).sum(1)  # blocks of each image, (B,)

    def hidden(self, features: Tensor, axis: int = 1) -> Tensor:
        """True where masked: (B, 1, H, W), or for channels in the last ``axis`` (B, H, W, 1)."""
        shape = features.shape[2:] if axis == 1 else features.shape[1:3]
        grid = (shape[0], shape[1])
        if len(features) != len(self.mask):
            raise ValueError(f'{len(features)} maps are not those of {len(self.mask)} masks')
        if grid not in self._hidden:
            self._hidden[grid] = upsample_mask(self.mask, grid).bool().unsqueeze(1)
        return self._hidden[grid] if axis == 1 else self._hidden[grid].movedim(1, -1)

    def count(self, features: Tensor) -> Tensor:
        """Visible positions of the whole batch, (), at least 1."""
        positions = features.shape[2] * features.shape[3] // self.mask[0].numel()
        visible = self._visible.sum().clamp(min=1) * positions
        return visible.to(torch.promote_types(features.dtype, torch.float32))

    def stretch(self, features: Tensor) -> Tensor:
        """Positions per visible one of each image, (B, 1, 1, 1); 1 where nothing is masked."""
        visible = self._visible.clamp(min=1).view(-1, 1, 1, 1)
        return self.mask[0].numel() / visible.to(torch.promote_types(features.dtype, torch.float32))


def hide(x: Tensor, hidden: Tensor) -> Tensor:
    """``x`` with 0 where ``hidden``, in its layout in memory, which ``masked_fill`` would lose."""
    return torch.where(hidden, x.new_zeros(()), x)


def normalize(norm: nn.Module, x: Tensor, blocks: VisibleBlocks) -> Tensor:
    """What ``norm`` makes of the visible positions of ``x`` (B, C, H, W) alone; 0 elsewhere.

    Args:
        norm: ``BatchNorm``, ``GroupNorm`` or a norm of single positions.
        x: 0 where masked.
        blocks: The mask.
    """
    hidden = blocks.hidden(x)
    if isinstance(norm, nn.GroupNorm):
        y = _activate(norm, _group_norm(norm, x, hidden, blocks.stretch(x)))
    elif isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None):
        y = _batch_norm(norm, x, hidden, blocks.count(x))
    else:
        y = cast(Any, type(norm)).forward(norm, x)
    return hide(y, hidden)


def _batch_norm(norm: _BatchNorm, x: Tensor, hidden: Tensor, count: Tensor) -> Tensor:
    """Batch normalization with the statistics of the ``count`` visible positions.

    With their mean at the masked ones, the mean over all N positions is the same, and the variance
    ``count / N`` of what it should be. torch's kernel gets features that are scaled by the root of
    N / ``count``, and a weight that is divided by it. With nothing masked all factors are 1, and
    the result is that of the layer to the last bit.
    """
    number = torch.full_like(count, x.numel() // x.shape[1])
    mean = (x.mean((0, 2, 3), keepdim=True) * (number / count)).to(x.dtype)
    if hasattr(norm, 'joins') and cast(Any, norm).joins():  # JointBatchNorm, of sync_bn
        filled = torch.where(hidden, mean.detach(), x)  # its gradient is that of visible positions
        return cast(Any, type(norm)).forward(norm, filled, count)
    filled = torch.where(hidden, mean, x)
    root = (number / count).sqrt()
    unbiased = (count * (number - 1)) / ((count - 1).clamp(min=1) * number)
    kept = norm.training and norm.track_running_stats
    running_mean = cast(Tensor, norm.running_mean) * root if kept else None
    running_var = cast(Tensor, norm.running_var) / unbiased if kept else None
    weight = (1 / root).expand(x.shape[1]) if norm.weight is None else norm.weight / root
    y = F.batch_norm(
        filled * root,
        running_mean,
        running_var,
        weight.to(root.dtype),
        norm.bias,
        True,
        cast(float, norm.momentum),
        norm.eps,
    )
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            cast(Tensor, norm.num_batches_tracked).add_(1)
            cast(Tensor, norm.running_mean).copy_(running_mean / root)
            cast(Tensor, norm.running_var).copy_(running_var * unbiased)
    return _activate(norm, y)


def _group_norm(norm: nn.GroupNorm, x: Tensor, hidden: Tensor, stretch: Tensor) -> Tensor:
    """The same for each image and group of channels; ``stretch`` (B, 1, 1, 1) is N / count."""
    groups = x.unflatten(1, (norm.num_groups, -1))  # (B, G, C / G, H, W)
    mean = groups.mean((2, 3, 4), keepdim=True) * stretch[..., None]
    filled = torch.where(hidden[:, None], mean.to(x.dtype), groups).flatten(1, 2)
    root = stretch.sqrt()
    scaled = (filled * root).to(x.dtype)
    y = F.group_norm(scaled, norm.num_groups, norm.weight, norm.bias, norm.eps)
    bias = y.new_zeros(()) if norm.bias is None else norm.bias.view(1, -1, 1, 1).to(y.dtype)
    return torch.lerp(bias.expand_as(y), y, (1 / root).to(y.dtype))


def _activate(norm: nn.Module, x: Tensor) -> Tensor:
    """Dropout and activation, of timm's norms that have them."""
    for name in ('drop', 'act'):
        x = getattr(norm, name, nn.Identity())(x)
    return x
