"""The decoder: its shapes, its order of pixels, its start and its variants."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from a2mim.models.decoder import PixelShuffleDecoder


@pytest.mark.parametrize(
    'options, out_channels',
    [
        ({}, 3),
        (dict(out_channels=1), 1),
        (dict(kernel_size=3), 3),
        (dict(block=dict(type='DepthwiseBlock')), 3),
        (dict(activation='sigmoid'), 3),
    ],
)
def test_features_become_an_image(options, out_channels):
    decoder = PixelShuffleDecoder(in_channels=8, stride=16, **options)
    assert decoder(torch.randn(2, 8, 4, 6)).shape == (2, out_channels, 64, 96)


def test_a_channel_fills_its_own_pixels_in_rows():
    decoder = PixelShuffleDecoder(in_channels=1, stride=2, out_channels=3)
    nn.init.zeros_(decoder.projection.weight)
    decoder.projection.bias.data = torch.arange(12.0)
    image = decoder(torch.zeros(1, 1, 1, 1))
    assert image.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]]]]


def test_weights_start_small_and_bias_at_zero():
    decoder = PixelShuffleDecoder(64, 16, block=dict(type='DepthwiseBlock'))
    for weight in (decoder.projection.weight, decoder.block.conv.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert weight.abs().max() <= 0.1
    assert not decoder.projection.bias.any()
    assert decoder.block.conv.bias is None
    assert decoder.block.conv.weight.shape == (64, 1, 5, 5)
    assert decoder.block.norm.eps == 1e-5


def test_block_and_activation_act():
    features = torch.randn(1, 8, 4, 4)
    torch.manual_seed(0)
    plain = PixelShuffleDecoder(8, 2)
    torch.manual_seed(0)
    bounded = PixelShuffleDecoder(8, 2, activation='sigmoid')
    torch.testing.assert_close(bounded(features), plain(features).sigmoid())
    torch.manual_seed(0)
    blocked = PixelShuffleDecoder(8, 2, block=dict(type='DepthwiseBlock'))
    torch.testing.assert_close(
        blocked(features), F.pixel_shuffle(blocked.projection(blocked.block(features)), 2)
    )
    assert not torch.equal(blocked.block(features), features)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(stride=None), 'stride=None'),
        (dict(stride=(16, 8)), r'stride=\(16, 8\)'),
        (dict(stride=16, kernel_size=2), 'kernel_size=2 must be odd'),
    ],
)
def test_construction_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        PixelShuffleDecoder(8, **options)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match='in_channels=8, the backbone gives 16'):
        PixelShuffleDecoder(8, 2)(torch.zeros(1, 16, 4, 4))
