"""Batch normalization over the joint batch of all processes, without waiting for the device.

``torch.nn.SyncBatchNorm`` reads a mask on the host three times a layer, runs on GPUs alone and
breaks the graph of ``torch.compile``. This layer has one collective forward and one backward, which
``torch.compile`` traces, and runs on every device.

Axes: B batch of this process, C channels, (H, W) pixels, R processes.
"""

from typing import Any, cast

import torch
from timm.layers.norm_act import SyncBatchNormAct, convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed import _functional_collectives as collectives
from torch.nn.modules.batchnorm import _BatchNorm


class JointBatchNorm(_BatchNorm):
    """Batch normalization with the statistics of all processes.

    Processes may have batches of different sizes: each counts by its number of pixels. One without
    any, such as a detector's head without a box, takes part with none. Outside of training, or in
    one process, it is ordinary batch normalization.

    Shape:
        input: (B, C, *).
        returns: the same.
    """

    process_group: distributed.ProcessGroup | None = None  # None for all processes

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f'batch normalization got {input.ndim} axes, not (B, C, ...)')

    def joins(self) -> bool:
        """Whether the statistics are those of several processes."""
        if not (self.training and distributed.is_initialized()):
            return False
        return distributed.get_world_size(self.process_group or distributed.group.WORLD) > 1

    def forward(self, input: Tensor, visible: Tensor | None = None) -> Tensor:
        """Normalize by the statistics of the joint batch, and update the running ones.

        ``visible``, (), counts the positions that are not masked, where the masked ones hold the
        mean of those; None if all are visible.
        """
        if not self.joins():
            return super().forward(input)
        group = self.process_group or distributed.group.WORLD
        output, mean, var, count = _Normalize.apply(
            input, self.weight, self.bias, self.eps, group, visible
        )
        if self.track_running_stats:
            self._update(mean, var * (count / (count - 1).clamp(min=1)), count)
        return output

    @torch.no_grad()
    def _update(self, mean: Tensor, unbiased_var: Tensor, count: Tensor) -> None:
        cast(Tensor, self.num_batches_tracked).add_(1)
        share = self.momentum
        if share is None:  # the mean over all batches
            share = 1 / cast(Tensor, self.num_batches_tracked)
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased_var)):
            kind = cast(Tensor, running).dtype
            # Without a pixel in any process, they stay.
            cast(Tensor, running).lerp_(now.to(kind), (share * (count > 0)).to(kind))


class JointBatchNormAct(JointBatchNorm):
    """``JointBatchNorm`` followed by the dropout and the activation of timm's layer."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor, visible: Tensor | None = None) -> Tensor:
        """Normalize, drop, activate."""
        return self.act(self.drop(super().forward(input, visible)))


def join_batch_norm(model: nn.Module, *, every: bool = True) -> nn.Module:
    """Make batch normalization of ``model`` one over the joint batch of all processes.

    timm's layers keep their activation, which torch's own conversion drops.

    Args:
        model: Its layers are replaced in place.
        every: All of its batch normalizations, or only those that are an ``nn.SyncBatchNorm``.
    """
    if every:
        model = convert_sync_batchnorm(model)
    for layer in model.modules():
        if isinstance(layer, SyncBatchNormAct):
            layer.__class__ = JointBatchNormAct
        elif isinstance(layer, nn.SyncBatchNorm):  # mmcv has a subclass of it
            cast(Any, layer).__class__ = JointBatchNorm
    return model


class _Normalize(torch.autograd.Function):
    """The output of the layer, and mean, biased variance (C,) and count (1,) of the joint batch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        group: distributed.ProcessGroup,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var = local_moments(x, eps)
        # One row a process, zeros elsewhere, so that a sum gathers them. Sums of x and x² would be
        # shorter, but their difference cancels where |mean| >> std.
        rows = mean.new_zeros(distributed.get_world_size(group), 2 * len(mean) + 1)  # (R, 2C + 1)
        count = mean.new_full((1,), x.numel() // x.shape[1])
        if visible is not None:
            var, count = var * (count / visible), visible.to(count).view(1)
        rows[distributed.get_rank(group)] = torch.cat([mean, var, count])
        rows = collectives.wait_tensor(collectives.all_reduce(rows, 'sum', group))
        means, variances, counts = rows.split([len(mean), len(var), 1], dim=1)  # (R, C), (R, 1)
        total = counts.sum(0)  # (1,)
        mean = (counts * means).sum(0) / total.clamp(min=1)
        var = (counts * (variances + (means - mean) ** 2)).sum(0) / total.clamp(min=1)
        inv_std = (var + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inv_std, counts)
        ctx.group = group
        ctx.mark_non_differentiable(mean, var, total)
        return scale_and_shift(x, weight, bias, mean, inv_std, eps), mean, var, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inv_std, counts = ctx.saved_tensors
        sums = local_gradient_sums(dy, x, mean, inv_std)  # (2, C)
        d_bias, d_weight = sums[0], sums[1] * inv_std
        joint = collectives.wait_tensor(collectives.all_reduce(sums.flatten(), 'sum', ctx.group))
        dx = input_gradient(dy, x, weight, mean, inv_std, joint.view_as(sums), counts)
        if weight is None:
            return dx, None, None, None, None, None
        return dx, d_weight.to(weight.dtype), d_bias.to(weight.dtype), None, None, None


# Torch's fused kernels exist for CUDA; torch.compile fuses the formulas itself.


def fused(x: Tensor) -> bool:
    """Whether the kernels of ``nn.SyncBatchNorm`` take ``x``."""
    return x.is_cuda and x.numel() > 0 and not torch.compiler.is_compiling()


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape that broadcasts over (B, C, *)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


def precise(x: Tensor) -> Tensor:
    """``x`` in a type whose sums are exact enough: float32 for the half ones."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def local_moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, (C,), float32 or float64."""
    if x.numel() == 0:
        mean = precise(x.new_zeros(x.shape[1]))
        return mean, mean
    if fused(x):
        mean, inv_std = torch.batch_norm_stats(x, eps)
        return mean, inv_std.pow(-2) - eps
    var, mean = torch.var_mean(precise(x), [0, *range(2, x.ndim)], correction=0)
    return mean, var


def scale_and_shift(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    inv_std: Tensor,
    eps: float,
) -> Tensor:
    """(x - mean) · inv_std · weight + bias, in the type of ``x``."""
    if fused(x):
        return torch.batch_norm_elemt(x, weight, bias, mean, inv_std, eps)
    scale = inv_std if weight is None else inv_std * weight
    y = (x - per_channel(mean, x)) * per_channel(scale, x)
    return (y if bias is None else y + per_channel(bias, x)).to(x.dtype)


def local_gradient_sums(dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor) -> Tensor:
    """Sums over the batch of this process of dy and of dy · (x - mean): (2, C)."""
    if fused(x):
        needs = (True, False, False)
        found = torch.batch_norm_backward_reduce(dy, x, mean, inv_std, None, *needs)
        return torch.stack(found[:2])
    over, dy = [0, *range(2, x.ndim)], precise(dy)
    return torch.stack([dy.sum(over), (dy * (x - per_channel(mean, x))).sum(over)])


def input_gradient(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inv_std: Tensor,
    sums: Tensor,
    counts: Tensor,
) -> Tensor:
    """Gradient with respect to ``x``, given the sums (2, C) over the joint batch.

    Reference:
        Ioffe and Szegedy, Batch Normalization, ICML 2015 (https://arxiv.org/abs/1502.03167).
    """
    if fused(x):
        gain = None if weight is None else weight.to(mean.dtype)
        sizes = counts.flatten().to(torch.int32)
        return torch.batch_norm_backward_elemt(dy, x, mean, inv_std, gain, sums[0], sums[1], sizes)
    d_mean, d_inv = sums / counts.sum().clamp(min=1)
    scale = inv_std if weight is None else inv_std * weight
    centered = (x - per_channel(mean, x)) * per_channel(d_inv * inv_std**2, x)
    dx = (dy - per_channel(d_mean, x) - centered) * per_channel(scale, x)
    return dx.to(x.dtype)
