"""Element-wise regression losses, and the classification losses of timm and torch.

An element-wise loss has the signature ``forward(pred, target)`` and returns a real tensor of the
same shape; the caller selects and averages elements. It is a function of |d| alone, d being
pred - target: the absolute value, or the modulus of a complex spectrum.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.loss import binary_cross_entropy
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from a2mim.registry import MODELS


def require_one_shape(pred: Tensor, target: Tensor) -> None:
    """Refuse shapes that broadcasting would silently compare with the wrong pixels.

    Raises:
        ValueError: If the shapes differ.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f'pred {tuple(pred.shape)} and target {tuple(target.shape)} must have one shape; '
            'check the stride and the channels of the decoder'
        )


def subtract(pred: Tensor, target: Tensor) -> Tensor:
    """``pred - target`` of equal shapes, in float32, or in float64 if one of them is."""
    require_one_shape(pred, target)
    # Named dtypes, not autocast: half precision would round small differences away.
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    return pred.to(dtype) - target.to(dtype)


def squared_modulus(values: Tensor) -> Tensor:
    """``|z|²``, without the square root whose gradient is undefined at 0."""
    if values.is_complex():
        return values.real.square() + values.imag.square()
    return values.square()


class Criterion(nn.Module):
    """Base of the element-wise losses; a subclass defines ``penalty``.

    Shape:
        pred, target: any one shape; real, or complex spectra.
        returns: the same shape, real; float32, or float64 for double inputs.

    Raises:
        ValueError: If ``pred`` and ``target`` differ in shape.
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of every element."""
        return self.penalty(subtract(pred, target))

    def penalty(self, difference: Tensor) -> Tensor:
        """The loss of each element of ``pred - target``."""
        raise NotImplementedError(f'{type(self).__name__} must define penalty(difference)')


@MODELS.register_module()
class L1Loss(Criterion):
    """Absolute difference ``|d|``, the spatial loss of the ViT configs and of SimMIM."""

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        return difference.abs()


@MODELS.register_module()
class MSELoss(Criterion):
    """Squared difference ``|d|²``."""

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        return squared_modulus(difference)


@MODELS.register_module()
class HuberLoss(Criterion):
    """``|d|² / 2β`` below β and ``|d| - β / 2`` above it.

    Args:
        beta: Distance at which the square turns into a line; more than 0.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = _positive('beta', beta)

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        distance = difference.abs()
        square = 0.5 * distance.square() / self.beta
        return torch.where(distance < self.beta, square, distance - 0.5 * self.beta)


@MODELS.register_module()
class CharbonnierLoss(Criterion):
    """``sqrt(|d|² + ε)``, an absolute difference that is smooth at 0 (where it is √ε, not 0).

    Args:
        eps: ε; more than 0.
    """

    def __init__(self, eps: float = 1e-10) -> None:
        super().__init__()
        self.eps = _positive('eps', eps)

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        return (squared_modulus(difference) + self.eps).sqrt()


@MODELS.register_module()
class BalancedL1Loss(Criterion):
    """An L1 loss with a steep gradient at 0, so that small errors count among large ones.

    With ``b = exp(γ / α) - 1`` it is ``α/b (b|d| + 1) ln(b|d|/β + 1) - α|d|`` below β and
    ``γ|d| + γ/b - αβ`` above it.

    Args:
        alpha: Smaller values give small errors more weight.
        beta: Distance at which the loss turns into a line.
        gamma: Slope of that line.

    Raises:
        ValueError: If a parameter is not above 0.

    Reference:
        Pang et al., Libra R-CNN, CVPR 2019 (https://arxiv.org/abs/1904.02701), section 3.3.
    """

    def __init__(self, alpha: float = 0.5, beta: float = 1.0, gamma: float = 1.5) -> None:
        super().__init__()
        self.alpha = _positive('alpha', alpha)
        self.beta = _positive('beta', beta)
        self.gamma = _positive('gamma', gamma)

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        alpha, beta, gamma = self.alpha, self.beta, self.gamma
        b = math.exp(gamma / alpha) - 1
        distance = difference.abs()
        lifted = alpha / b * (b * distance + 1) * torch.log1p(b / beta * distance)
        line = gamma * distance + gamma / b - alpha * beta
        return torch.where(distance < beta, lifted - alpha * distance, line)


def _positive(name: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f'{name}={value} must be more than 0')
    return value


# 2 sigmoid(z) - 1 = tanh(z / 2): one function, and no cancellation near 0.
SLOPES = {'sigmoid': 0.5, 'tanh': 1.0}


@MODELS.register_module()
class FocalL1Loss(Criterion):
    """``|d| · s(α|d|)^γ``, the spatial loss of the convolutional configs.

    The focus ``s(α|d|)^γ``, with ``s(z) = 2 sigmoid(z) - 1`` or ``s(z) = tanh(z)``, is 0 for a
    correct prediction and close to 1 for a large error: it down-weights pixels that are already
    well predicted. With the values of the configs the loss is ``|d| tanh(|d| / 10)``,
    close to d² / 10 for ``|d| < 3``.

    Args:
        alpha: Slope of the focus; more than 0.
        gamma: Sharpness of the focus, 0 or more; 0 switches it off.
        activation: ``'sigmoid'`` or ``'tanh'``, the function s above.
        residual: Add the distance itself.

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
            # The slope of x^γ is infinite at 0 for γ < 1, and 0 · inf is NaN.
            focus = focus.clamp(min=torch.finfo(focus.dtype).tiny) ** self.gamma
        return focus + 1 if self.residual else focus


@MODELS.register_module()
class FocalMSELoss(FocalL1Loss):
    """``|d|² · s(α|d|)^γ``; parameters as in :class:`FocalL1Loss`."""

    def penalty(self, difference: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        distance = difference.abs()
        return distance.square() * self.focus(distance)


@MODELS.register_module()
class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch's cross-entropy of one class per image, or of class probabilities.

    Args:
        weight: Factor of each class, such as the number of images over those of the class.
        **options: ``label_smoothing`` and others of ``torch.nn.CrossEntropyLoss``.

    Raises:
        ValueError: If a weight is negative or not finite, or all are 0.
    """

    def __init__(self, weight: Sequence[float] | Tensor | None = None, **options: Any) -> None:
        super().__init__(**options)
        # Not persistent: a checkpoint does not overrule the config.
        self.register_buffer('weight', class_weights('weight', weight), persistent=False)


@MODELS.register_module()
class BinaryCrossEntropy(binary_cross_entropy.BinaryCrossEntropy):
    """timm's binary cross-entropy of every class: of one class per image, several, or mixed images.

    Args:
        weight: Factor of each class.
        pos_weight: Factor of each class where an image has it, or one for all.
        **options: ``smoothing``, ``sum_classes`` and others of timm. Smoothing is for images with
            one class.

    Raises:
        ValueError: If a weight is negative or not finite, or all are 0.
    """

    def __init__(
        self,
        smoothing: float = 0.1,
        *,
        weight: Sequence[float] | Tensor | None = None,
        pos_weight: Sequence[float] | float | Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(smoothing, **options)
        given = {'weight': weight, 'pos_weight': pos_weight}
        for name, values in given.items():
            self.register_buffer(name, class_weights(name, values), persistent=False)


def class_weights(name: str, values: Sequence[float] | float | Tensor | None) -> Tensor | None:
    """Weights of a config as float32.

    Raises:
        ValueError: If one is negative or not finite, or all are 0.
    """
    if values is None:
        return None
    weights = torch.as_tensor(values, dtype=torch.float32)
    if weights.ndim > 1 or not (weights.isfinite().all() and weights.min() >= 0 < weights.max()):
        raise ValueError(
            f'loss.{name}={values} must be numbers of at least 0, one per class, such as [1.0, 5.0]'
        )
    return weights


def check_class_weights(loss: nn.Module, num_classes: int) -> None:
    """Refuse class weights for another number of classes.

    Raises:
        ValueError: If so.
    """
    for name in ('weight', 'pos_weight'):
        weights = getattr(loss, name, None)
        if isinstance(weights, Tensor) and weights.ndim and len(weights) != num_classes:
            raise ValueError(
                f'loss.{name} has {len(weights)} numbers, but the classifier {num_classes} '
                'classes; give one number per class'
            )


for loss in (LabelSmoothingCrossEntropy, SoftTargetCrossEntropy):
    MODELS.register_module(module=loss)

# Losses of a softmax, of which an image has one class, or probabilities that add up to 1.
SOFTMAX_LOSSES = (CrossEntropyLoss, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy)
