"""The head of masked image modelling: compare a reconstruction with the image and its spectrum.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks.
A mask is 1 where a block is masked and 0 where it is visible.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from a2mim.masking import upsample_mask
from a2mim.models.targets import FeatureTarget
from a2mim.registry import MODELS, build_module

# What replaces the visible pixels of a reconstruction before its spectrum is taken: functions of
# (reconstruction without gradient, target) whose result broadcasts to (B, C, H, W).
VISIBLE_FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'target': lambda reconstruction, target: target,
    'prediction': lambda reconstruction, target: reconstruction,
    'mean': lambda reconstruction, target: target.mean(dim=(2, 3), keepdim=True),
    'mixed': lambda reconstruction, target: torch.lerp(reconstruction, target, 0.5),
}


@MODELS.register_module()
class MIMHead(nn.Module):
    """Spatial loss over masked pixels and, optionally, a loss on the spectrum of the whole image.

    A spectrum mixes all pixels, but only masked ones are to be predicted. So it is taken of a
    composite: the reconstruction where pixels are masked, a fill without gradient where they are
    visible.

    Each of the three parts is a config or an object.

    Args:
        spatial: Element-wise criterion, such as ``dict(type='L1Loss')`` or, of torch,
            ``nn.L1Loss(reduction='none')``.
        spectral: Loss with ``forward(pred, target) -> scalar``, such as
            ``dict(type='FocalFrequencyLoss', loss_weight=0.5)``; its ``loss_weight`` balances the
            two terms. None leaves the spectrum out.
        visible_weight: Weight of visible pixels in the spatial loss, 0 to 1. At 0 the network
            cannot lower the loss by copying its input.
        visible_leak: Share of the reconstruction in the visible pixels of the composite, 0 to 1;
            it scales their gradient too. At 1 the composite is the reconstruction itself.
        visible_fill: The fill: ``'target'``, ``'prediction'``, ``'mean'`` (of the target, per
            image and channel) or ``'mixed'`` (half prediction, half target).
        target: Features of the image to reconstruct, such as ``dict(type='HOGTarget')``; None
            for its pixels.

    Raises:
        ValueError: If a share lies outside [0, 1] or ``visible_fill`` is unknown.

    Reference:
        Li et al., A2MIM, ICML 2023 (https://arxiv.org/abs/2205.13943), section 4.
    """

    def __init__(
        self,
        spatial: dict | nn.Module,
        spectral: dict | nn.Module | None = None,
        visible_weight: float = 0.0,
        visible_leak: float = 0.0,
        visible_fill: str = 'mixed',
        target: dict | FeatureTarget | None = None,
    ) -> None:
        super().__init__()
        for name, share in (('visible_weight', visible_weight), ('visible_leak', visible_leak)):
            if not 0 <= share <= 1:
                raise ValueError(f'{name}={share} must lie in [0, 1]; 0 ignores visible pixels')
        if visible_fill not in VISIBLE_FILLS:
            raise ValueError(f'visible_fill={visible_fill!r} must be one of {list(VISIBLE_FILLS)}')
        self.spatial = build_module(spatial)
        self.spectral = None if spectral is None else build_module(spectral)
        self.visible_weight = visible_weight
        self.visible_leak = visible_leak
        self.visible_fill = visible_fill
        self.target: FeatureTarget | None = None if target is None else build_module(target)

    def loss(self, reconstruction: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compare ``reconstruction`` with ``target``, in float32 whatever the autocast.

        Shape:
            target: (B, C, H, W), normalised pixels (zero mean, unit variance).
            reconstruction: The same, or that of the features of ``target`` with a feature target.
            mask: (B, h, w), 1 where masked; H and W are multiples of h and w.
            returns: scalars ``loss_spatial`` and, with a spectral loss, ``loss_spectral``.

        Raises:
            ValueError: If the shapes do not fit each other.
            TypeError: If a loss returns another shape than it should.
        """
        if mask.ndim != 3 or len(mask) != len(target):
            raise ValueError(
                f'mask {tuple(mask.shape)} must be (B, h, w) with the batch of the target '
                f'{tuple(target.shape)}'
            )
        if self.target is not None:
            target = self.target(target)
        dtype = torch.promote_types(reconstruction.dtype, torch.float32)
        reconstruction, target, mask = reconstruction.to(dtype), target.to(dtype), mask.to(dtype)
        # The reference implementation adds the two terms; apart, each appears in the log.
        losses = {'loss_spatial': self._spatial_loss(reconstruction, target, mask)}
        if self.spectral is not None:
            composite = self._composite(reconstruction, target, mask)
            losses['loss_spectral'] = self.spectral(composite, target)
            _require_shape('spectral', self.spectral, losses['loss_spectral'], ())
        return losses

    def _spatial_loss(self, reconstruction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Weighted mean of the criterion over pixels and channels of the batch."""
        num_channels, height, width = target.shape[1:]
        weight = upsample_mask(_weigh(mask, self.visible_weight), (height, width))  # (B, H, W)
        error = self.spatial(reconstruction, target)  # (B, C, H, W)
        _require_shape('spatial', self.spatial, error, target.shape)
        # Channels are summed first: the map to be weighted is then C times smaller.
        total = (error.sum(dim=1) * weight).sum()
        # 1e-5 as in the reference implementation; with nothing masked the loss is 0.
        return total / (weight.sum() + 1e-5) / num_channels

    def _composite(self, reconstruction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The reconstruction where masked; where visible, ``visible_leak`` of it over the fill."""
        if self.visible_leak == 1:
            return reconstruction
        fill = VISIBLE_FILLS[self.visible_fill](reconstruction.detach(), target)
        height, width = target.shape[-2:]
        share = upsample_mask(_weigh(mask, self.visible_leak), (height, width))
        return torch.lerp(fill, reconstruction, share.unsqueeze(1))


def _weigh(mask: Tensor, visible: float) -> Tensor:
    """1 where masked and ``visible`` elsewhere."""
    return mask + (1 - mask) * visible


def _require_shape(name: str, loss: nn.Module, value: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a scalar loss as ``spatial``, or an element-wise one as ``spectral``."""
    if value.shape != shape:
        raise TypeError(
            f'{name}={loss} returns shape {tuple(value.shape)} where {tuple(shape)} is needed: '
            'spatial takes an element-wise criterion, spectral a loss that returns a scalar'
        )
