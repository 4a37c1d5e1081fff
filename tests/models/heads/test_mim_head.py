"""The head, against the published one and by its properties."""

import pytest
import torch
from torch import Tensor

from a2mim.models.mim_head import MIMHead
from host_sync import no_host_sync
from loss_cases import assert_gradient, batch, cases, sine_batch

L1 = dict(type='L1Loss')
FOCAL_L1 = dict(type='FocalL1Loss')
FILLS = ['target', 'prediction', 'mean', 'mixed']


def focal_frequency(loss_weight: float) -> dict:
    return dict(type='FocalFrequencyLoss', loss_weight=loss_weight)


def spectrum(criterion: dict, **options: bool) -> dict:
    return dict(type='SpectrumLoss', criterion=criterion, loss_weight=0.1, **options)


def small_batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction (with gradient), target and mask; the left half of every image is hidden."""
    pred, target = torch.randn(2, 3, 2, 8, 12, dtype=dtype)
    return pred.requires_grad_(), target, torch.tensor([[[1, 1, 0, 0]] * 2] * 3)


@pytest.mark.parametrize('case', cases('heads.json'))
def test_head_equals_the_published_one(case):
    pred, target, mask = batch(case['inputs'])
    losses = MIMHead(**case['head']).loss(pred, target, mask)
    total = sum(losses.values())
    total.backward()
    assert total.item() == pytest.approx(case['loss'], rel=1e-7)
    assert losses['loss_spatial'].item() == pytest.approx(case['loss_spatial'], rel=1e-7)
    assert_gradient(pred, case)


@pytest.mark.parametrize(
    ('head', 'loss', 'gradient'),
    [
        (dict(spatial=L1), 0.8164863266, 0.9999999980),
        (dict(spatial=L1, visible_weight=0.5), 0.8208453026, 0.9999999985),
        (dict(spatial=L1, visible_weight=1), 0.8235696627, 0.9999999988),
        (dict(spatial=FOCAL_L1), 0.1001762460, 0.1613744172),
        (
            dict(spatial=L1, spectral=focal_frequency(0.1), visible_fill='target'),
            0.8233900071,
            1.0114243431,
        ),
        (
            dict(spatial=L1, spectral=focal_frequency(0.1), visible_fill='prediction'),
            0.8203394334,
            1.0042022277,
        ),
        (
            dict(spatial=L1, spectral=focal_frequency(0.1), visible_fill='mean'),
            0.8215796992,
            1.0075206045,
        ),
        (dict(spatial=L1, spectral=focal_frequency(0.1)), 0.8201117841, 1.0068109342),
        (
            dict(spatial=FOCAL_L1, spectral=focal_frequency(0.5), visible_leak=1e-3),
            0.1182959944,
            0.2103901417,
        ),
        (
            dict(spatial=FOCAL_L1, spectral=spectrum(FOCAL_L1), visible_leak=1e-3),
            0.1045124658,
            0.1661342395,
        ),
        (
            dict(spatial=L1, spectral=spectrum(L1), visible_leak=1e-3),
            0.8297135815,
            1.0144578348,
        ),
        (
            dict(spatial=L1, spectral=spectrum(L1, reweight=True), visible_leak=1e-3),
            0.8893812250,
            1.0510460725,
        ),
        (dict(spatial=L1, spectral=spectrum(L1), visible_leak=1), 0.8286608666, 1.0166077902),
        (
            dict(spatial=L1, spectral=focal_frequency(0.1), visible_leak=1),
            0.8203394334,
            1.0148024007,
        ),
    ],
)
def test_losses_of_the_sine_images_are_the_published_numbers(head, loss, gradient):
    pred, target, mask = sine_batch()
    total = sum(MIMHead(**head).loss(pred, target, mask).values())
    total.backward()
    assert total.item() == pytest.approx(loss, abs=6e-11)
    assert pred.grad.abs().sum().item() == pytest.approx(gradient, abs=6e-11)


@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('spectral', [focal_frequency(0.5), spectrum(L1)])
def test_visible_pixels_carry_no_gradient(fill, spectral):
    pred, target, mask = small_batch()
    head = MIMHead(L1, spectral, visible_fill=fill)
    sum(head.loss(pred, target, mask).values()).backward()
    assert (pred.grad[..., 6:] == 0).all()
    assert (pred.grad[..., :6] != 0).all()


def test_visible_pixels_do_not_change_the_spatial_loss():
    pred, target, mask = small_batch()
    wrong = pred.detach().clone()
    wrong[..., 6:] = 100
    losses = [MIMHead(L1).loss(image, target, mask)['loss_spatial'] for image in (pred, wrong)]
    assert torch.equal(*losses)


def test_gradient_of_visible_pixels_scales_with_the_leak():
    pred, target, mask = small_batch(torch.float64)
    head = MIMHead(L1, dict(type='SpectrumLoss', criterion=dict(type='MSELoss')), visible_leak=0.25)
    head.loss(pred, target, mask)['loss_spectral'].backward()
    # By Parseval the loss is the mean squared error of the composite, whose error is, over visible
    # pixels and with half of the fill from the prediction, 0.25 + 0.75 / 2 of the whole.
    visible = (pred - target).detach()[..., 6:] * 0.625
    torch.testing.assert_close(pred.grad[..., 6:], 0.25 * 2 * visible / pred.numel())


@pytest.mark.parametrize('fill', ['target', 'prediction', 'mixed'])
@pytest.mark.parametrize('spectral', [focal_frequency(0.5), spectrum(FOCAL_L1)])
def test_a_perfect_reconstruction_costs_nothing(fill, spectral):
    _, target, mask = small_batch()
    head = MIMHead(FOCAL_L1, spectral, visible_leak=1e-3, visible_fill=fill)
    losses = head.loss(target.clone(), target, mask)
    assert {name: loss.item() for name, loss in losses.items()} == {
        'loss_spatial': 0,
        'loss_spectral': 0,
    }


def test_nothing_hidden_gives_a_finite_zero():
    pred, target, mask = small_batch()
    assert MIMHead(L1).loss(pred, target, torch.zeros_like(mask))['loss_spatial'].item() == 0


@pytest.mark.parametrize('dtype', [torch.uint8, torch.bool, torch.int64, torch.float32])
def test_masks_of_every_dtype_mean_the_same(dtype):
    pred, target, mask = small_batch()
    head = MIMHead(L1, focal_frequency(0.1))
    expected = head.loss(pred, target, mask.float())
    assert head.loss(pred, target, mask.to(dtype)) == expected


def test_without_a_spectral_loss_there_is_one_term():
    assert list(MIMHead(L1).loss(*small_batch())) == ['loss_spatial']


@pytest.mark.parametrize('spectral', [focal_frequency(0.5), spectrum(FOCAL_L1)])
def test_autocast_leaves_the_losses_in_single_precision(spectral):
    pred, target, mask = small_batch()
    pred = pred.detach().bfloat16().requires_grad_()
    head = MIMHead(FOCAL_L1, spectral, visible_leak=1e-3)
    expected = head.loss(pred.float(), target, mask)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = head.loss(pred, target, mask)
    sum(losses.values()).backward()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected[name])
    assert pred.grad.dtype == torch.bfloat16


@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('spectral', [focal_frequency(0.5), spectrum(L1, reweight=True)])
def test_no_step_waits_for_the_accelerator(fill, spectral):
    pred, target, mask = small_batch()
    with no_host_sync():
        head = MIMHead(FOCAL_L1, spectral, visible_leak=1e-3, visible_fill=fill)
        sum(head.loss(pred, target, mask).values()).backward()


def test_configs_of_the_caller_stay_as_they_were():
    spatial, spectral = dict(type='HuberLoss'), spectrum(dict(L1))
    MIMHead(spatial, spectral)
    assert spatial == dict(type='HuberLoss')
    assert spectral == spectrum(L1)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(visible_weight=1.5), r'visible_weight=1.5 must lie in \[0, 1\]'),
        (dict(visible_leak=-0.1), r'visible_leak=-0.1 must lie in \[0, 1\]'),
        (dict(visible_fill='noise'), "visible_fill='noise' must be one of .*'mixed'"),
        (dict(visible_fill=None), 'visible_fill=None must be one of'),
    ],
)
def test_impossible_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        MIMHead(L1, focal_frequency(0.1), **options)


def test_a_scalar_loss_is_refused_as_spatial():
    with pytest.raises(TypeError, match=r'spatial=Foc.*spatial takes an element-wise criterion'):
        MIMHead(focal_frequency(1.0)).loss(*small_batch())


def test_a_criterion_is_refused_as_spectral():
    with pytest.raises(TypeError, match=r'spectral=L1Loss.*spectral a loss that returns a scalar'):
        MIMHead(L1, L1).loss(*small_batch())


@pytest.mark.parametrize('shape', [(3, 1, 2, 4), (2, 2, 4)])
def test_a_mask_of_another_batch_or_rank_is_refused(shape):
    pred, target, _ = small_batch()
    with pytest.raises(ValueError, match=r'must be \(B, h, w\) with the batch of the target'):
        MIMHead(L1).loss(pred, target, torch.ones(shape))


def test_a_mask_finer_than_the_target_is_refused():
    pred, target, _ = small_batch()
    with pytest.raises(ValueError, match='16×16 blocks does not divide'):
        MIMHead(L1).loss(pred, target, torch.ones(3, 16, 16))


def test_a_reconstruction_of_another_size_is_refused():
    pred, target, mask = small_batch()
    with pytest.raises(ValueError, match='must have one shape'):
        MIMHead(L1).loss(pred[..., :6], target, mask)
