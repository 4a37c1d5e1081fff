"""A2MIM: the loss is what the parts give, nothing leaks, and bad parts are refused."""

import pytest
import torch

from a2mim.masking import fill_masked, upsample_mask
from a2mim.models import A2MIM, SimMIM
from host_sync import no_host_sync

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0] * 3, std=[64.0] * 3)
HEAD = dict(
    type='MIMHead',
    spatial=dict(type='FocalL1Loss'),
    spectral=dict(type='FocalFrequencyLoss', loss_weight=0.5),
    visible_leak=1e-3,
)
NECK = dict(type='PixelShuffleDecoder')


def build(algorithm=A2MIM, **backbone) -> A2MIM:
    backbone = dict(type='TimmBackbone', model_name='resnet10t', mask_after='layer3') | backbone
    return algorithm(backbone, NECK, HEAD, PREPROCESSOR)


def batch(size: int = 64, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(count, 3, size, size)
    mask = (torch.rand(count, size // 32, size // 32) < 0.6).float()
    mask[:, 0, 0], mask[:, 0, 1] = 1, 0
    return image, mask


def test_loss_is_the_head_on_the_decoded_features_of_the_filled_image():
    model = build().eval()
    image, mask = batch()
    features = model.backbone(fill_masked(image, mask), mask)
    expected = model.head.loss(model.neck(features), image, mask)
    losses = model(image=image, mask=mask, mode='loss')
    assert set(losses) == {'loss_spatial', 'loss_spectral'}
    assert all(torch.equal(losses[name], expected[name]) for name in losses)


def test_hidden_content_cannot_reach_the_reconstruction():
    model = build().eval()
    image, mask = batch()
    hidden = upsample_mask(mask, (64, 64)).unsqueeze(1).bool()
    # Other content with the same mean per channel, so that the fill stays the same.
    noise = torch.randn_like(image) * hidden
    noise -= noise.sum((2, 3), keepdim=True) / hidden.sum((2, 3), keepdim=True) * hidden
    reconstructions = [
        model(image=x, mask=mask, mode='predict')['reconstruction'] for x in (image, image + noise)
    ]
    torch.testing.assert_close(*reconstructions, atol=1e-4, rtol=1e-4)


def test_every_parameter_gets_a_gradient():
    model = build()
    sum(model(*batch(), mode='loss').values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_predict_returns_what_a_picture_needs():
    image, mask = batch()
    prediction = build().eval()(image=image, mask=mask, mode='predict')
    assert torch.equal(prediction['visible'], fill_masked(image, mask))
    assert prediction['reconstruction'].shape == image.shape


def test_tensor_mode_gives_the_features_of_the_whole_image():
    model = build().eval()
    image, _ = batch()
    assert torch.equal(model(image=image), model.backbone(image))


def test_a_step_never_waits_for_the_device():
    model = build()
    image, mask = batch()
    with no_host_sync():
        sum(model(image=image, mask=mask, mode='loss').values()).backward()


@pytest.mark.parametrize('channels', [1, 5])
def test_any_number_of_channels(channels):
    backbone = dict(
        type='TimmBackbone', model_name='resnet10t', mask_after='layer3', in_chans=channels
    )
    preprocessor = dict(type='ImagePreprocessor', mean=[128.0] * channels, std=[64.0] * channels)
    model = A2MIM(backbone, NECK, HEAD, preprocessor)  # the decoder's follow from the means
    losses = model(torch.randn(2, channels, 64, 96), torch.ones(2, 2, 3), mode='loss')
    assert all(loss.isfinite() for loss in losses.values())


def test_a_backbone_without_a_mask_token_is_refused():
    with pytest.raises(ValueError, match='set mask_after'):
        build(mask_after=None)


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="fill='grey'"):
        A2MIM({}, NECK, HEAD, PREPROCESSOR, fill='grey')


def test_a_mask_grid_that_does_not_fit_the_stage_names_both_grids():
    image, _ = batch()
    with pytest.raises(ValueError, match='8'):
        build()(image=image, mask=torch.ones(2, 8, 8), mode='loss')


def test_simmim_shows_the_image_as_it_is():
    model = build(SimMIM, mask_token=dict(mode='replace'))
    image, mask = batch()
    assert model.hide(image, mask) is image


def test_simmim_refuses_a_token_that_hides_nothing():
    with pytest.raises(ValueError, match="mode='replace'"):
        build(SimMIM, mask_token=dict(mode='add'))


@pytest.mark.parametrize('size', [64, (64, 96)])
def test_residual_adds_the_mean_colour_to_the_decoded_features(size):
    backbone = dict(type='TimmBackbone', model_name='resnet10t', mask_after='layer3')
    model = A2MIM(backbone, NECK, HEAD, PREPROCESSOR, residual=True).eval()
    height, width = (size, size) if isinstance(size, int) else size
    image = 2 + torch.randn(2, 3, height, width)  # far from the mean of the data set
    mask = torch.ones(2, height // 32, width // 32)
    mask[:, 0, 0] = 0
    decoded = model.neck(model.backbone(fill_masked(image, mask), mask))
    expected = decoded + torch.stack([channel.mean() for channel in image.flatten(0, 1)]).view(
        2, 3, 1, 1
    )
    torch.testing.assert_close(model(image, mask, mode='predict')['reconstruction'], expected)
    losses, by_hand = model(image, mask, mode='loss'), model.head.loss(expected, image, mask)
    assert all(torch.allclose(losses[name], by_hand[name]) for name in losses)
    model.residual = False
    assert model(image, mask, mode='loss')['loss_spatial'] > losses['loss_spatial']
