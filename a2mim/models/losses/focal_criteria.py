"""Focal criteria: a distance times how surprising it is, so that easy pixels fade from the loss.

The focus of an element at distance |d| is ``s(α|d|)^γ`` with ``s(z) = 2 sigmoid(z) - 1`` or
``s(z) = tanh(z)``: 0 where the prediction is right, towards 1 where it is far off.
"""

import torch
from torch import Tensor

from a2mim.models.losses.criteria import Criterion
from a2mim.registry import MODELS

# 2 sigmoid(z) - 1 = tanh(z / 2): one function, and no cancellation near 0.
SLOPES = {'sigmoid': 0.5, 'tanh': 1.0}


@MODELS.register_module()
class FocalL1Loss(Criterion):
    """``|d| · s(α|d|)^γ``, the spatial loss of the convolutional recipes.

    With the values of the recipes it is |d| tanh(|d| / 10), close to d² / 10 for |d| < 3: one tenth
    of a squared error with linear tails.

    Args:
        alpha: Slope of the focus; more than 0.
        gamma: Sharpness of the focus, 0 or more; 0 switches it off.
        activation: ``'sigmoid'`` or ``'tanh'``, the function s above.
        residual: Add the distance itself, so that easy pixels keep their share.

    Raises:
        ValueError: If a parameter lies outside its range.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        gamma: float = 1.0,
        activation: str = 'sigmoid',
        residual: bool = False,
    ) -> None:
        super().__init__()
        if alpha <= 0 or gamma < 0:
            raise ValueError(f'alpha={alpha} must be more than 0 and gamma={gamma} at least 0')
        if activation not in SLOPES:
            raise ValueError(f'activation={activation!r} must be one of {list(SLOPES)}')
        self.slope = alpha * SLOPES[activation]
        self.gamma = gamma
        self.residual = residual

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        distance = difference.abs()
        return distance * self.focus(distance)

    def focus(self, distance: Tensor) -> Tensor:
        """``s(α · distance)^γ``, plus 1 with ``residual``."""
        focus = torch.tanh(self.slope * distance)
        if self.gamma != 1:
            # The slope of x^γ is infinite at 0 for γ < 1, and 0 · inf is not a number.
            focus = focus.clamp(min=torch.finfo(focus.dtype).tiny) ** self.gamma
        return focus + 1 if self.residual else focus


@MODELS.register_module()
class FocalMSELoss(FocalL1Loss):
    """``|d|² · s(α|d|)^γ``; parameters as in :class:`FocalL1Loss`."""

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        distance = difference.abs()
        return distance.square() * self.focus(distance)
