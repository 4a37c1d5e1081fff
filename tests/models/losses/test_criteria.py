"""Element-wise criteria, against the published system and by their properties."""

import pytest
import torch

import formulas
from a2mim.models.losses import Criterion, FocalL1Loss, HuberLoss
from a2mim.registry import MODELS
from loss_cases import assert_gradient, batch, cases, sine_batch

EXACT = ['L1Loss', 'MSELoss', 'FocalL1Loss', 'FocalMSELoss', 'HuberLoss', 'BalancedL1Loss']
ALL = [*EXACT, 'CharbonnierLoss']


@pytest.mark.parametrize('case', cases('criteria.json'))
def test_criterion_equals_the_published_one(case):
    pred, target, _ = batch('C')
    error = MODELS.build(case['criterion'])(pred, target)
    if case['reduction'] == 'none':
        probe = torch.from_numpy(formulas.u('reg/gout', error.numel(), seed=1))
        value = (error.flatten() * probe).sum()
    else:
        value = getattr(error, case['reduction'])()
    value.backward()
    assert value.item() == pytest.approx(case['value'], rel=1e-7)
    assert_gradient(pred, case)


@pytest.mark.parametrize(
    ('criterion', 'expected'),
    [
        (dict(type='L1Loss'), 0.8235696637),
        (dict(type='MSELoss'), 1.0224281077),
        (dict(type='FocalL1Loss'), 0.1014689469),
        (dict(type='FocalL1Loss', activation='tanh'), 0.1984965286),
        (dict(type='FocalL1Loss', residual=True), 0.9250386105),
        (dict(type='FocalMSELoss'), 0.1473936789),
        (dict(type='HuberLoss'), 0.4513585499),
        (dict(type='CharbonnierLoss'), 0.8235696643),
        (dict(type='BalancedL1Loss'), 0.9034052820),
    ],
)
def test_mean_over_the_sine_images_is_the_published_number(criterion, expected):
    pred, target, _ = sine_batch()
    assert MODELS.build(criterion)(pred, target).mean().item() == pytest.approx(expected, abs=6e-11)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [torch.float64, torch.complex128])
def test_gradient_is_that_of_the_value(name, dtype):
    criterion = MODELS.build(dict(type=name))
    pred = torch.randn(3, 4, dtype=dtype, requires_grad=True)
    target = torch.randn(3, 4, dtype=dtype)
    assert torch.autograd.gradcheck(lambda pred: criterion(pred, target), pred)


@pytest.mark.parametrize('name', ALL)
def test_criterion_of_a_spectrum_depends_on_the_modulus(name):
    criterion = MODELS.build(dict(type=name))
    real = torch.linspace(-3, 3, 7)
    turned = real * torch.exp(torch.tensor(0.7j))
    expected = criterion(real, torch.zeros(7))
    torch.testing.assert_close(criterion(turned, torch.zeros_like(turned)), expected)


@pytest.mark.parametrize('name', EXACT)
def test_a_perfect_prediction_costs_nothing(name):
    image = torch.randn(2, 3)
    assert torch.equal(MODELS.build(dict(type=name))(image, image), torch.zeros(2, 3))


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [torch.float32, torch.complex64])
def test_gradient_is_zero_where_the_prediction_is_perfect(name, dtype):
    pred = torch.ones(3, dtype=dtype, requires_grad=True)
    MODELS.build(dict(type=name))(pred, pred.detach()).sum().backward()
    assert torch.equal(pred.grad, torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize('name', ['FocalL1Loss', 'FocalMSELoss'])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_for_every_gamma(name, gamma):
    pred = torch.tensor([0.0, 1e-30, 1.0, 1e4], requires_grad=True)
    error = MODELS.build(dict(type=name, gamma=gamma))(pred, torch.zeros(4))
    error.sum().backward()
    assert error.isfinite().all()
    assert pred.grad.isfinite().all()


def test_focal_parameters_follow_the_formula():
    d = torch.tensor([-3.0, 0.5, 7.0], dtype=torch.float64)
    value = FocalL1Loss(alpha=0.7, gamma=1.8)(d, torch.zeros_like(d))
    expected = d.abs() * (2 * torch.sigmoid(0.7 * d.abs()) - 1) ** 1.8
    torch.testing.assert_close(value, expected)


def test_huber_turns_into_a_line_at_beta():
    d = torch.tensor([0.5, 2.0, 3.0])
    assert HuberLoss(beta=2.0)(d, torch.zeros(3)).tolist() == [0.0625, 1.0, 2.0]


def test_half_precision_is_compared_in_single_precision():
    pred = torch.tensor([1.0], dtype=torch.bfloat16)
    error = MODELS.build(dict(type='L1Loss'))(pred, torch.tensor([1.001]))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(0.001, rel=1e-3)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r'\(2, 3\).*\(3,\).*one shape'):
        MODELS.build(dict(type='L1Loss'))(torch.zeros(2, 3), torch.zeros(3))


@pytest.mark.parametrize(
    'config',
    [
        dict(type='HuberLoss', beta=0),
        dict(type='CharbonnierLoss', eps=0),
        dict(type='BalancedL1Loss', gamma=-1),
        dict(type='FocalL1Loss', alpha=0),
        dict(type='FocalL1Loss', gamma=-1),
        dict(type='FocalMSELoss', activation='relu'),
    ],
)
def test_impossible_parameters_are_refused(config):
    with pytest.raises(ValueError, match='must be'):
        MODELS.build(config)


def test_the_base_class_asks_for_a_penalty():
    with pytest.raises(NotImplementedError, match='must define penalty'):
        Criterion()(torch.zeros(1), torch.zeros(1))
