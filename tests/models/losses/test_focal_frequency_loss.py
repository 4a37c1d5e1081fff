"""Focal frequency loss, against the published system and a direct form of it."""

import pytest
import torch
from torch import Tensor

from a2mim.models.spectral_losses import FocalFrequencyLoss
from a2mim.registry import MODELS
from host_sync import no_host_sync
from loss_cases import assert_gradient, batch, cases, sine_batch


def direct_form(pred: Tensor, target: Tensor, loss: FocalFrequencyLoss) -> Tensor:
    """The definition: two full complex transforms of all images, automatic differentiation."""
    spectra = [torch.fft.fft2(image, norm='ortho') for image in (pred, target)]
    if loss.average_spectrum:
        spectra = [spectrum.mean(dim=0, keepdim=True) for spectrum in spectra]
    difference = torch.view_as_real(spectra[0] - spectra[1])
    power = difference.square().sum(dim=-1)
    weight = power.detach().sqrt() ** loss.alpha
    if loss.log_weight:
        weight = torch.log(weight + 1)
    peak = weight.max() if loss.batch_norm_weight else weight.amax(dim=(2, 3), keepdim=True)
    return loss.loss_weight * (weight / peak * power).mean()


@pytest.mark.parametrize('case', cases('focal_frequency.json'))
def test_loss_equals_the_published_one(case):
    pred, target, _ = batch(case['inputs'])
    value = MODELS.build(case['loss'])(pred, target)
    value.backward()
    assert value.item() == pytest.approx(case['value'], rel=1e-7)
    assert_gradient(pred, case)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(average_spectrum=False, log_weight=False), 0.7714254120),
        (dict(average_spectrum=False), 0.9034963708),
        (dict(log_weight=False), 0.0300562535),
        (dict(), 0.0385310679),
        (dict(average_spectrum=False, log_weight=False, alpha=0.5), 0.8640929532),
        (dict(average_spectrum=False, alpha=2.0), 0.8936279205),
    ],
)
def test_value_on_the_sine_images_is_the_published_number(options, expected):
    pred, target, _ = sine_batch()
    assert FocalFrequencyLoss(**options)(pred, target).item() == pytest.approx(expected, abs=6e-11)


@pytest.mark.parametrize('size', [(8, 8), (7, 9), (6, 1), (1, 2)])
@pytest.mark.parametrize('average_spectrum', [True, False])
@pytest.mark.parametrize('batch_norm_weight', [True, False])
def test_value_and_gradient_equal_the_direct_form(size, average_spectrum, batch_norm_weight):
    loss = FocalFrequencyLoss(
        loss_weight=0.3,
        alpha=1.3,
        average_spectrum=average_spectrum,
        batch_norm_weight=batch_norm_weight,
    )
    pred, target = torch.randn(2, 3, 2, *size, dtype=torch.float64)
    pred.requires_grad_(), target.requires_grad_()
    expected = direct_form(pred, target, loss)
    value = loss(pred, target)
    torch.testing.assert_close(value, expected)
    gradients = torch.autograd.grad(value, (pred, target))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (pred, target)))


@pytest.mark.parametrize('average_spectrum', [True, False])
def test_gradient_is_that_of_the_value_where_all_weights_are_equal(average_spectrum):
    loss = FocalFrequencyLoss(alpha=0.0, average_spectrum=average_spectrum)
    pred = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda pred: loss(pred, target), pred)


@pytest.mark.parametrize('batch_norm_weight', [True, False])
def test_a_perfect_prediction_gives_exactly_zero_and_no_gradient(batch_norm_weight):
    target = torch.randn(3, 2, 8, 8)
    pred = target.clone().requires_grad_()
    value = FocalFrequencyLoss(batch_norm_weight=batch_norm_weight)(pred, target)
    value.backward()
    assert value.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_gradient_of_the_average_spectrum_takes_the_memory_of_one_image():
    pred = torch.randn(16, 3, 8, 8, requires_grad=True)
    value = FocalFrequencyLoss()(pred, torch.randn(16, 3, 8, 8))
    (gradient,) = torch.autograd.grad(value, pred)
    assert gradient.shape == pred.shape
    assert gradient.untyped_storage().nbytes() == pred[:1].nbytes


def test_half_precision_inputs_are_summed_in_single_precision():
    pred = torch.randn(4, 3, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    target = torch.randn(4, 3, 8, 8)
    loss = FocalFrequencyLoss()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(pred, target)
    value.backward()
    assert value.dtype == torch.float32
    assert pred.grad.dtype == torch.bfloat16
    torch.testing.assert_close(value, direct_form(pred.float(), target, loss))


def test_second_derivatives_are_refused():
    pred, scale = torch.randn(1, 1, 4, 4, requires_grad=True), torch.ones((), requires_grad=True)
    value = scale * FocalFrequencyLoss()(pred, torch.zeros(1, 1, 4, 4))
    (gradient,) = torch.autograd.grad(value, pred, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


@pytest.mark.parametrize('average_spectrum', [True, False])
def test_no_step_waits_for_the_accelerator(average_spectrum):
    pred = torch.randn(2, 3, 8, 8, requires_grad=True)
    with no_host_sync():
        FocalFrequencyLoss(average_spectrum=average_spectrum)(
            pred, torch.zeros_like(pred)
        ).backward()


def test_without_processes_sync_changes_nothing():
    pred, target = torch.randn(2, 2, 3, 8, 8)
    expected = FocalFrequencyLoss()(pred, target)
    torch.testing.assert_close(FocalFrequencyLoss(sync=True)(pred, target), expected)


def test_negative_alpha_is_refused():
    with pytest.raises(ValueError, match='alpha=-1 must be at least 0'):
        FocalFrequencyLoss(alpha=-1)


def test_sync_without_an_average_is_refused():
    with pytest.raises(ValueError, match='needs average_spectrum=True'):
        FocalFrequencyLoss(average_spectrum=False, sync=True)


@pytest.mark.parametrize('average_spectrum', [True, False])
def test_batches_of_different_size_are_refused(average_spectrum):
    loss = FocalFrequencyLoss(average_spectrum=average_spectrum)
    with pytest.raises(ValueError, match='must have one shape'):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))
