"""The mask token: its formula, its kinds and its state."""

import pytest
import torch
from torch import Tensor

from a2mim.models.mask_token import MaskToken, insert_token

HIDDEN = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])  # (1, 2, 3)
LAYOUTS = pytest.mark.parametrize('layout', ['BCHW', 'BHWC', 'BLC'])


def arrange(features: Tensor, layout: str) -> tuple[Tensor, Tensor, int]:
    """Features (B, C, H, W) and HIDDEN in another layout, and the axis of the channels."""
    if layout == 'BCHW':
        return features, HIDDEN, 1
    features = features.movedim(1, -1)
    if layout == 'BHWC':
        return features, HIDDEN, -1
    return features.flatten(1, 2), HIDDEN.flatten(1), -1


def filled(token: MaskToken) -> MaskToken:
    for i, state in enumerate(token.state_dict().values(), start=1):
        state.copy_(torch.linspace(-1, 1, len(state)) * i)
    return token


def apply(token: MaskToken, features: Tensor) -> Tensor:
    return token(features, HIDDEN, 1)


@LAYOUTS
@pytest.mark.parametrize('options', [{}, dict(mode='replace'), dict(gamma_init=0.5)])
def test_the_formula_holds_in_every_layout(layout, options):
    token, x = filled(MaskToken(4, **options)), torch.randn(1, 4, 2, 3)
    t, m = token.token[:, None, None], HIDDEN.unsqueeze(1)
    kept = {'replace': 0.0, 'add': 1.0}[token.mode]
    scale = token.gamma[:, None, None] if token.gamma is not None else kept
    expected = x * (1 - m) + scale * x * m + t * m

    features, hidden, axis = arrange(x, layout)
    changed = token(features, hidden, axis)

    torch.testing.assert_close(changed, arrange(expected, layout)[0])


def test_visible_features_are_kept_to_the_bit_and_hidden_ones_replaced_to_the_bit():
    x, token = torch.randn(1, 4, 2, 3).bfloat16(), torch.randn(4, 1, 1).bfloat16()
    changed = insert_token(x, HIDDEN.unsqueeze(1).bfloat16(), token, scale=0.0)
    visible = HIDDEN[0] == 0
    assert torch.equal(changed[..., visible], x[..., visible])
    assert torch.equal(changed[..., ~visible], token.squeeze(-1).expand(1, 4, 3))


def test_gamma_starts_where_it_is_told():
    assert MaskToken(4, gamma_init=1e-6).gamma.tolist() == pytest.approx([1e-6] * 4)
    assert MaskToken(4).gamma is None


def test_state_is_one_vector_per_parameter():
    token = MaskToken(4, gamma_init=1e-6)
    assert {name: tuple(p.shape) for name, p in token.named_parameters()} == {
        'token': (4,),
        'gamma': (4,),
    }


@pytest.mark.parametrize(
    'options, trained, stored',
    [
        (dict(value='learnable'), {'token'}, {'token'}),
        (dict(value='randn'), set(), {'token'}),
        (dict(value='zero'), set(), {'token'}),
        (dict(value='mean'), set(), set()),
        (dict(value='instance_mean'), set(), set()),
    ],
)
def test_only_a_learnable_token_is_trained_and_a_computed_one_not_stored(options, trained, stored):
    token = MaskToken(4, **options)
    assert {name for name, _ in token.named_parameters()} == trained
    assert set(token.state_dict()) == stored


def test_initial_values():
    wide = MaskToken(4096)
    assert wide.token.std().item() == pytest.approx(0.02, rel=0.05)
    assert wide.token.abs().max() <= 0.1
    assert MaskToken(4096, value='randn').token.std().item() == pytest.approx(0.02, rel=0.05)
    assert not MaskToken(4, init='zero').token.any()
    assert not MaskToken(4, value='zero').token.any()


@LAYOUTS
def test_mean_is_that_of_the_batch_and_carries_no_gradient(layout):
    x = torch.randn(1, 4, 2, 3)
    features, hidden, axis = arrange(x, layout)
    features.requires_grad_()
    changed = MaskToken(4, mode='replace', value='mean')(features, hidden, axis)
    changed.sum().backward()
    mean = x.mean((0, 2, 3), keepdim=True).expand_as(x)
    expected = torch.where(HIDDEN.unsqueeze(1) == 1, mean, x)
    torch.testing.assert_close(changed, arrange(expected, layout)[0])
    # Gradient 1 at visible positions, none through the mean.
    visible = arrange((1 - HIDDEN).unsqueeze(1).expand_as(x), layout)[0]
    assert torch.equal(features.grad, visible)


def test_instance_mean_is_that_of_each_image_and_carries_gradient():
    x = torch.randn(2, 4, 2, 3, requires_grad=True)
    hidden = HIDDEN.expand(2, 2, 3)
    changed = MaskToken(4, mode='replace', value='instance_mean')(x, hidden, 1)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(changed, torch.where(hidden.unsqueeze(1) == 1, mean, x))
    changed.sum().backward()
    hidden_share = HIDDEN.mean()
    torch.testing.assert_close(x.grad, (1 - hidden.unsqueeze(1) + hidden_share).expand_as(x))


def test_detach_stops_the_gradient_of_hidden_features_alone():
    x = torch.randn(1, 4, 2, 3, requires_grad=True)
    apply(MaskToken(4, gamma_init=0.5, detach=True), x).sum().backward()
    assert torch.equal(x.grad, (1 - HIDDEN).unsqueeze(1).expand_as(x))


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(mode='ad'), "'ad'.*'add', 'replace'"),
        (dict(init='zeros'), "'zeros'.*'trunc_normal', 'zero'"),
        (dict(value='learned'), "'learned'.*'learnable'"),
        (dict(mode='replace', gamma_init=1e-6), 'gamma_init=1e-06'),
        (dict(mode='replace', detach=True), 'detach=True'),
        (dict(value='randn', init='zero'), "init='zero'"),
    ],
)
def test_unknown_and_idle_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MaskToken(4, **options)
