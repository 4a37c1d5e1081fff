"""The pyramid of a plain ViT."""

import pytest
import torch

from a2mim.models.necks import RescalePyramid


def test_four_maps_of_one_stride_get_four():
    maps = [torch.randn(2, 8, 6, 4) for _ in range(4)]
    levels = RescalePyramid(8)(maps)
    assert [tuple(level.shape) for level in levels] == [
        (2, 8, 24, 16),
        (2, 8, 12, 8),
        (2, 8, 6, 4),
        (2, 8, 3, 2),
    ]


def test_a_scale_of_one_changes_nothing_and_a_half_takes_the_maximum():
    features = torch.randn(1, 3, 4, 4)
    same, coarse = RescalePyramid(3, scales=(1, 0.5))([features, features])
    assert torch.equal(same, features)
    blocks = features.unflatten(2, (2, 2)).unflatten(4, (2, 2))
    assert torch.equal(coarse, blocks.amax(dim=(3, 5)))


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match=r'scale 3 of a pyramid must be 4, 2, 1 or 0.5'):
        RescalePyramid(8, scales=(3,))
