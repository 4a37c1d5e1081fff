"""RandomErasing: timm's distribution of boxes, from the key of the sample."""

import math
import random

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing as TimmRandomErasing

from a2mim.datasets import ImageDataset, RandomErasing, SampleKey

DRAWS = 4000


def boxes_of(erase: RandomErasing, number: int = DRAWS) -> np.ndarray:
    """(N, 4): top, left, height, width."""
    rng = np.random.default_rng(0)
    return np.stack([erase(rng).numpy() for _ in range(number)])


def timm_boxes(height: int, width: int, number: int) -> np.ndarray:
    """The same from timm, read off what it erases."""
    random.seed(0)
    erase = TimmRandomErasing(probability=1, mode='pixel', max_count=1, device='cpu')
    boxes = []
    for _ in range(number):
        rows, columns = erase(torch.zeros(1, height, width))[0].nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        boxes.append((top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1))
    return np.array(boxes)


def test_a_quarter_of_the_images_is_erased():
    boxes = boxes_of(RandomErasing(32, p=0.25))
    assert np.mean(boxes[:, 2] > 0) == pytest.approx(0.25, abs=0.03)
    assert not boxes[boxes[:, 2] == 0].any()


def test_area_and_aspect_follow_the_published_ranges():
    _, _, height, width = boxes_of(RandomErasing(224, p=1)).T
    share, log_aspect = height * width / 224**2, np.log(height / width)
    assert 0.019 < share.min() < 0.022
    assert 0.32 < share.max() < 0.335
    assert share.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.005)
    assert np.abs(log_aspect).max() == pytest.approx(math.log(1 / 0.3), abs=0.03)
    # uniform in the logarithm: variance of a range of that width
    assert log_aspect.std() == pytest.approx(2 * math.log(1 / 0.3) / math.sqrt(12), abs=0.02)


@pytest.mark.parametrize('size', [(32, 32), (24, 48)])
def test_boxes_are_distributed_as_timms(size):
    ours, timms = boxes_of(RandomErasing(size, p=1), 3000), timm_boxes(*size, 3000)
    assert (ours >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= size).all()
    for column in range(4):
        quantiles = [np.quantile(boxes[:, column], [0.1, 0.5, 0.9]) for boxes in (ours, timms)]
        np.testing.assert_allclose(*quantiles, atol=1)
        assert ours[:, column].mean() == pytest.approx(timms[:, column].mean(), abs=0.5)


def test_an_image_that_is_too_flat_for_any_box_stays_whole():
    assert boxes_of(RandomErasing((1, 1000), p=1), 5).tolist() == [[0] * 4] * 5


def test_no_probability_is_refused():
    with pytest.raises(ValueError, match=r'p=1\.5'):
        RandomErasing(32, p=1.5)


@pytest.fixture
def options() -> dict:
    return dict(
        source=dict(type='a2mim.PhotoPatches', split='train'),
        pipeline=[dict(type='RandomResizedCrop', size=32)],
    )


def test_the_box_is_a_function_of_the_key(options):
    erase = dict(type='RandomErasing', image_size=32, p=1.0)
    first, second = (ImageDataset(**options, erase=erase, seed=1) for _ in range(2))
    keys = [SampleKey(3, 0, 0), SampleKey(3, 1, 0), SampleKey(3, 0, 1), SampleKey(4, 0, 0)]
    boxes = [tuple(first[key]['erase'].tolist()) for key in keys]
    assert boxes == [tuple(second[key]['erase'].tolist()) for key in reversed(keys)][::-1]
    assert len(set(boxes)) == 4


def test_the_sample_carries_the_box_beside_the_whole_image(options):
    sample = ImageDataset(**options, erase=dict(type='RandomErasing', image_size=32, p=1.0))[0]
    assert sample['image'].dtype == torch.uint8
    assert sample['erase'].shape == (4,)
    assert sample['erase'].dtype == torch.int64
    assert 'erase' not in ImageDataset(**options)[0]


def test_a_box_for_another_size_is_refused(options):
    dataset = ImageDataset(**options, erase=dict(type='RandomErasing', image_size=64, p=0.5))
    with pytest.raises(ValueError, match=r'images of \(32, 32\) pixels.*image_size=\(64, 64\)'):
        dataset[0]
