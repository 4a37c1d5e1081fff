"""Strides 4 to 32 from maps of stride 16."""

import pytest
import torch

from a2mim.models.multi_scale import RescalePyramid


def test_every_map_is_rescaled_by_its_factor():
    maps = [torch.randn(2, 8, 6, 10) for _ in range(4)]
    pyramid = RescalePyramid(8)(maps)
    assert [tuple(item.shape) for item in pyramid] == [
        (2, 8, 24, 40),
        (2, 8, 12, 20),
        (2, 8, 6, 10),
        (2, 8, 3, 5),
    ]
    assert torch.equal(pyramid[2], maps[2])
    assert torch.equal(pyramid[3][0, 0, 0, 0], maps[3][0, 0, :2, :2].max())


def test_a_refined_map_sees_its_own_position_only():
    pyramid = RescalePyramid(4, scales=(2,))
    features = torch.randn(1, 4, 3, 3)
    changed = features.clone()
    changed[:, :, 1, 2] += 1
    difference = (pyramid([features])[0] - pyramid([changed])[0]).abs().sum(1)[0]
    assert difference[2:4, 4:6].gt(0).all()
    difference[2:4, 4:6] = 0
    assert not difference.any()


def test_every_level_that_refines_learns():
    pyramid = RescalePyramid(4)
    sum(item.square().mean() for item in pyramid([torch.randn(1, 4, 4, 4)] * 4)).backward()
    assert all(parameter.grad.any() for parameter in pyramid.parameters())


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match=r'scale 3 of a pyramid must be 4, 2, 1 or 0.5'):
        RescalePyramid(4, scales=(3,))


def test_a_map_without_a_scale_is_refused():
    with pytest.raises(ValueError, match=r'zip'):
        RescalePyramid(4)([torch.zeros(1, 4, 4, 4)] * 3)
