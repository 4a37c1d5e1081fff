"""Spectrum loss: an element-wise criterion on Fourier coefficients instead of pixels.

Axes: B batch, C channels, (H, W) pixels, W' = W // 2 + 1 columns of a half spectrum.
"""

from torch import Tensor, nn

from a2mim.models.losses.criteria import Criterion, subtract
from a2mim.models.losses.half_spectrum import half_spectrum, mean_over_spectrum
from a2mim.registry import MODELS


@MODELS.register_module()
class SpectrumLoss(nn.Module):
    """Mean of a criterion over the orthonormal Fourier transforms of prediction and target.

    A criterion depends on the difference alone and the transform is linear, so one transform of
    the difference serves; as the images are real, one half of it does.

    Args:
        criterion: Element-wise criterion, such as ``dict(type='FocalL1Loss')``.
        loss_weight: Factor on the result.
        reweight: Multiply each element by its own penalty, taken as a constant, so that the
            frequencies that are most wrong weigh most.

    Shape:
        pred, target: (B, C, H, W), normalised pixels (zero mean, unit variance).
        returns: scalar; float32, or float64 for double inputs.

    Raises:
        TypeError: If ``criterion`` is no element-wise criterion.
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
        """The mean penalty of the spectra of ``pred`` and ``target``."""
        spectrum = half_spectrum(subtract(pred, target))  # (B, C, H, W')
        error = self.criterion.penalty(spectrum)
        if self.reweight:
            error = error.detach() * error
        return self.loss_weight * mean_over_spectrum(error, pred.shape[-1])
