"""Losses on the spectrum: the focal frequency loss, and any element-wise loss of coefficients.

Axes: B batch, C channels, (H, W) pixels, W' = W // 2 + 1 columns of a half spectrum. The spectrum
of a real image is Hermitian: columns k and W - k are conjugate, so one of them is computed.
"""

from collections.abc import Callable
from typing import Any

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from a2mim.models.losses import Criterion, require_one_shape, squared_modulus, subtract
from a2mim.registry import MODELS


def half_spectrum(image: Tensor) -> Tensor:
    """Orthonormal transform over the last two axes, (..., H, W) real to (..., H, W') complex."""
    return torch.fft.rfft2(image, norm='ortho')


def mean_over_spectrum(values: Tensor, width: int) -> Tensor:
    """Mean of ``values`` (..., H, W') over the full spectrum, ``width`` = W columns wide.

    ``values`` must be equal at conjugate frequencies, as functions of the modulus are.
    """
    columns = values.sum(dim=tuple(range(values.ndim - 1)))
    # Columns 1 … ceil(W / 2) - 1 have a conjugate; column 0 and, for even W, column W / 2 do not.
    total = columns.sum() + columns[1 : (width + 1) // 2].sum()
    return total / (values.shape[:-1].numel() * width)


@MODELS.register_module()
class FocalFrequencyLoss(nn.Module):
    """Mean of ``w |ΔF|²`` over all frequencies, the weight w growing with the error ``|ΔF|``.

    ΔF is the orthonormal Fourier transform of the prediction minus that of the target, and
    ``w = |ΔF|^α``, its logarithm taken and divided by its maximum. w carries no gradient.

    The transform is linear: the difference of two spectra is the spectrum of a difference, and the
    average spectrum of a batch is the spectrum of the average image. So one transform of C real
    images replaces 2B·C complex ones.

    The average is taken over the batch of one process, so the objective depends on the batch size,
    the world size and gradient accumulation, as in the reference implementation. ``sync`` removes
    the dependence on the world size.

    Args:
        loss_weight: Factor on the result.
        alpha: Power of ``|ΔF|`` in the weight; 0 weighs all frequencies equally.
        average_spectrum: Compare the average spectra of the batch, not image with image.
        log_weight: Take ``ln(w + 1)``, which flattens the weight.
        batch_norm_weight: Divide the weight by its maximum over the batch; otherwise by the maximum
            of each image and channel.
        sync: Average the spectra over all processes too. All processes need the same batch size;
            averaged by DistributedDataParallel, the gradients are those of the joint batch.

    Shape:
        pred, target: (B, C, H, W), normalised pixels (zero mean, unit variance).
        returns: scalar; float32, or float64 for double inputs. 0 if pred equals target. It can be
        differentiated once, not twice.

    Raises:
        ValueError: If ``alpha`` is negative, or ``sync`` is set without ``average_spectrum``; in
            ``forward``, if the shapes differ.

    Reference:
        Jiang et al., Focal Frequency Loss for Image Reconstruction and Synthesis, ICCV 2021
        (https://arxiv.org/abs/2012.12821); average spectra after Li et al., A2MIM, ICML 2023
        (https://arxiv.org/abs/2205.13943), section 4.2.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        alpha: float = 1.0,
        average_spectrum: bool = True,
        log_weight: bool = True,
        batch_norm_weight: bool = True,
        sync: bool = False,
    ) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f'alpha={alpha} must be at least 0; the paper uses 1')
        if sync and not average_spectrum:
            raise ValueError('sync=True averages spectra: it needs average_spectrum=True')
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.average_spectrum = average_spectrum
        self.log_weight = log_weight
        self.batch_norm_weight = batch_norm_weight
        self.sync = sync

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The weighted distance of the spectra of ``pred`` and ``target``."""
        require_one_shape(pred, target)
        if self.average_spectrum:
            difference = subtract(_batch_mean(pred), _batch_mean(target))
        else:
            difference = subtract(pred, target)
        return self.of_difference(difference)

    def of_difference(self, difference: Tensor) -> Tensor:
        """The loss, given prediction minus target; their means with ``average_spectrum``."""
        if self.sync:
            difference = _average_over_processes(difference)
        return self.loss_weight * _WeightedPower.apply(difference, self._weigh)

    def _weigh(self, power: Tensor) -> Tensor:
        """Weights in [0, 1] from ``|ΔF|²``, both (B, C, H, W')."""
        weight = power.pow(0.5 * self.alpha)
        if self.log_weight:
            weight = weight.log1p()
        axes = (0, 1, 2, 3) if self.batch_norm_weight else (2, 3)
        peak = weight.amax(dim=axes, keepdim=True)
        # For pred = target, 0 / tiny is 0 where 0 / 0 is NaN.
        return weight / peak.clamp(min=torch.finfo(peak.dtype).tiny)


class _WeightedPower(torch.autograd.Function):
    """Mean of ``w |F|²`` over the spectrum F of real images, with w held constant.

    The gradient is ``2 / N`` times the image whose spectrum is ``w F``: one real inverse transform,
    where automatic differentiation takes a padded complex one.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weigh: Callable[[Tensor], Tensor]) -> Tensor:
        """Scalar from ``image`` (B, C, H, W) and ``weigh``, from powers to weights."""
        spectrum = half_spectrum(image)  # (B, C, H, W')
        power = squared_modulus(spectrum)
        weight = weigh(power)
        ctx.save_for_backward(spectrum * weight)
        ctx.shape = image.shape
        return mean_over_spectrum(weight * power, image.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient (B, C, H, W) of the image."""
        (weighted,) = ctx.saved_tensors
        image = torch.fft.irfft2(weighted, s=ctx.shape[-2:], norm='ortho')
        return image * (grad * (2 / ctx.shape.numel())), None


def _batch_mean(image: Tensor) -> Tensor:
    """Mean over the batch, (B, C, H, W) to (1, C, H, W), in float32 or float64.

    A sum and a division rather than a mean: the gradient of a sum is an expanded view, that of a
    mean a copy of B times the size.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)
    return image.sum(dim=0, keepdim=True, dtype=dtype) / len(image)


def _average_over_processes(image: Tensor) -> Tensor:
    """The mean of ``image`` over all processes, with the gradient of the identity.

    Averaging the parameters' gradients over the processes applies the factor 1 / world size, so it
    is left out here.
    """
    mean = image.detach().clone()
    dist.all_reduce(mean, 'mean')
    return image + (mean - image.detach())


@MODELS.register_module()
class SpectrumLoss(nn.Module):
    """Mean of a criterion over the orthonormal Fourier transforms of prediction and target.

    A criterion is a function of the difference and the transform is linear, so the transform of
    the difference suffices.

    Args:
        criterion: Element-wise criterion, such as ``dict(type='FocalL1Loss')``.
        loss_weight: Factor on the result.
        reweight: Multiply each element by its own loss, taken as a constant: the frequencies with
            the largest errors get the largest weights.

    Shape:
        pred, target: (B, C, H, W), normalised pixels (zero mean, unit variance).
        returns: scalar; float32, or float64 for double inputs.

    Raises:
        TypeError: If ``criterion`` is not an element-wise criterion.
    """

    def __init__(self, criterion: dict, loss_weight: float = 1.0, reweight: bool = False) -> None:
        super().__init__()
        self.criterion = MODELS.build(criterion)
        if not isinstance(self.criterion, Criterion):
            raise TypeError(
                f'criterion={criterion} must be element-wise, such as L1Loss or FocalL1Loss'
            )
        self.loss_weight = loss_weight
        self.reweight = reweight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The mean loss of the spectra of ``pred`` and ``target``."""
        spectrum = half_spectrum(subtract(pred, target))  # (B, C, H, W')
        error = self.criterion.penalty(spectrum)
        if self.reweight:
            error = error.detach() * error
        return self.loss_weight * mean_over_spectrum(error, pred.shape[-1])
