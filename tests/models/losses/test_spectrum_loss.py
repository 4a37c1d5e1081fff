"""Spectrum loss, against two full complex transforms."""

import pytest
import torch

from a2mim.models.spectral_losses import SpectrumLoss
from a2mim.registry import MODELS
from host_sync import no_host_sync

CRITERIA = ['L1Loss', 'FocalL1Loss', 'MSELoss', 'FocalMSELoss', 'HuberLoss']


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('size', [(8, 8), (6, 7), (5, 1)])
@pytest.mark.parametrize('reweight', [True, False])
def test_value_and_gradient_equal_the_direct_form(criterion, size, reweight):
    pred, target = torch.randn(2, 3, 2, *size, dtype=torch.float64)
    pred.requires_grad_()
    loss = SpectrumLoss(dict(type=criterion), loss_weight=0.2, reweight=reweight)
    value = loss(pred, target)
    spectra = [torch.fft.fft2(image, norm='ortho') for image in (pred, target)]
    error = MODELS.build(dict(type=criterion))(*spectra)
    expected = 0.2 * ((error.detach() if reweight else 1) * error).mean()
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(result, pred)[0] for result in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_gradient_is_that_of_the_value():
    loss = SpectrumLoss(dict(type='FocalL1Loss'))
    pred = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda pred: loss(pred, target), pred)


def test_a_perfect_prediction_gives_exactly_zero_and_no_gradient():
    target = torch.randn(3, 2, 8, 8)
    pred = target.clone().requires_grad_()
    value = SpectrumLoss(dict(type='L1Loss'), reweight=True)(pred, target)
    value.backward()
    assert value.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_half_precision_inputs_are_transformed_in_single_precision():
    pred = torch.randn(2, 3, 6, 6, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = SpectrumLoss(dict(type='FocalL1Loss'))(pred, torch.zeros(2, 3, 6, 6))
    assert value.dtype == torch.float32


def test_no_step_waits_for_the_accelerator():
    pred = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = SpectrumLoss(dict(type='FocalL1Loss'), reweight=True)
    with no_host_sync():
        loss(pred, torch.zeros_like(pred)).backward()


def test_a_criterion_that_is_not_element_wise_is_refused():
    with pytest.raises(TypeError, match='must be element-wise'):
        SpectrumLoss(dict(type='FocalFrequencyLoss'))
