"""Effective receptive fields against closed forms."""

import numpy as np
import pytest
import timm
import torch
from scipy.signal import convolve2d
from torch import nn

from a2mim.analysis import AnalysisImages, read_network
from a2mim.analysis.embedding import image_features
from a2mim.analysis.receptive_field import (
    central_gradient,
    effective_receptive_field,
    find_stage,
    square_with_share,
)


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_stack_of_averages_has_the_kernel_convolved_with_itself(depth: int) -> None:
    average = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.double)
    layers = [nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.double) for _ in range(depth)]
    for layer in layers:
        layer.weight.data.copy_(average)
    model = nn.Sequential(*layers, nn.Identity())
    gradient, centre = central_gradient(model, str(depth - 1), torch.rand(2, 1, 15, 15).double())
    wanted = np.ones((1, 1))
    for _ in range(depth):
        wanted = convolve2d(wanted, average[0, 0].numpy())
    canvas = np.pad(wanted, 7 - depth)
    np.testing.assert_allclose(gradient[0, 0].numpy(), canvas, atol=1e-12)
    np.testing.assert_array_equal(gradient[0], gradient[1])  # the images do not mix
    assert centre == (7.5, 7.5)


def test_channels_add_up_and_a_stride_moves_the_centre() -> None:
    layer = nn.Conv2d(1, 3, 4, stride=4, bias=False)
    gradient, centre = central_gradient(
        nn.Sequential(layer, nn.Identity()), '0', torch.rand(1, 1, 16, 24)
    )
    expected = torch.zeros(16, 24)
    expected[8:12, 12:16] = layer.weight.detach().sum(dim=(0, 1))
    torch.testing.assert_close(gradient[0, 0], expected)
    assert centre == (10.0, 14.0)


def test_squares_of_an_even_field_follow_the_area() -> None:
    shares = (1 / 121, 9 / 121, 10 / 121, 1.0)
    found = square_with_share(np.ones((11, 11)), shares)
    assert found == [(1, 1 / 121), (3, 9 / 121), (4, 16 / 121), (11, 1.0)]


def test_smallest_square_is_found_in_a_corner_and_cut_to_a_flat_image() -> None:
    contribution = np.zeros((3, 8))
    contribution[2, 7] = contribution[1, 7] = 1
    assert square_with_share(contribution, (0.5, 1.0)) == [(1, 1 / 24), (2, 4 / 24)]
    assert square_with_share(np.ones((3, 8)), (0.5,)) == [(4, 12 / 24)]


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit'])
def test_a_stage_by_number_is_the_module_of_that_name(name: str) -> None:
    model, images = timm.create_model(name).eval(), torch.rand(1, 3, 160, 160)
    by_number, by_path = (central_gradient(model, p, images) for p in (-1, find_stage(model)))
    torch.testing.assert_close(by_number[0], by_path[0])
    assert by_number[1] == by_path[1]


def test_a_stage_that_is_no_module_has_a_gradient() -> None:
    gradient, _ = central_gradient(
        timm.create_model('twins_svt_small').eval(), -1, torch.rand(1, 3, 64, 64)
    )
    assert gradient.abs().sum() > 0


def test_a_network_that_keeps_a_tensor_has_a_gradient_after_other_measurements() -> None:
    network, images = read_network('random:convit_tiny'), AnalysisImages('photos', 1)
    image_features(network, images)
    assert effective_receptive_field(network, images).contribution.any()


def test_channels_of_a_constant_sum_are_refused() -> None:
    network = read_network('random:pvt_v2_b0')
    with pytest.raises(ValueError, match=r"channels of 'stages.3' has no gradient"):
        effective_receptive_field(network, AnalysisImages('photos', 1))


@pytest.mark.parametrize('name', ['test_vit', 'test_convnext', 'test_efficientnet'])
def test_any_trunk_has_a_gradient_at_its_last_stage(name: str) -> None:
    model = timm.create_model(name).eval()
    gradient, _ = central_gradient(model, find_stage(model), torch.rand(1, 3, 160, 160))
    assert gradient.shape == (1, 3, 160, 160)
    assert gradient.abs().sum() > 0


def test_stages_go_by_name_and_by_number_and_others_are_refused() -> None:
    model = timm.create_model('test_resnet')
    assert find_stage(model, '-1') == find_stage(model, 'layer4') == 'layer4'
    with pytest.raises(ValueError, match="no module 'layer9'; its stages are act1, layer1"):
        find_stage(model, 'layer9')
    with pytest.raises(ValueError, match='no stage 5; its 5 stages are act1'):
        find_stage(model, '5')
