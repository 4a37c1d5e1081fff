"""The embedded digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from a2mim.datasets import Digits

SPLITS = ('train', 'val', 'test')


def rows(source: Digits) -> set[bytes]:
    """Every image as bytes; no two of the 1,797 are equal."""
    return {source.images[index].tobytes() for index in range(len(source))}


def test_the_splits_are_fixed_stratified_and_test_is_apart():
    train, val, test = (Digits(split) for split in SPLITS)
    assert [len(source) for source in (train, val, test)] == [1297, 300, 500]
    assert np.bincount(val.labels).tolist() == [30] * 10
    assert np.bincount(test.labels).tolist() == [50] * 10
    assert not rows(test) & rows(train)
    assert rows(val) < rows(train)
    grey = load_digits().images
    assert len(rows(train) | rows(test)) == len(grey)
    np.testing.assert_array_equal(test.images[0, 0], np.rint(grey[0] * 255 / 16))


@pytest.mark.parametrize('labels', [1, 5, 94])
def test_few_labels_are_neither_for_validation_nor_for_test(labels):
    few = Digits(labels_per_class=labels, seed=1)
    assert np.bincount(few.labels).tolist() == [labels] * 10
    assert rows(few) < rows(Digits()) - rows(Digits('val'))


def test_few_labels_are_drawn_by_the_seed():
    draws = [rows(Digits(labels_per_class=2, seed=seed)) for seed in (0, 0, 1, None)]
    assert draws[0] == draws[1] == draws[3]
    assert draws[0] != draws[2]


def test_an_image_has_three_equal_channels_from_black_to_white():
    source = Digits('val')
    image = source.load(299)
    assert image.shape == (3, 8, 8)
    assert image.dtype == torch.uint8
    assert torch.equal(image[0], image[2])
    assert len(np.unique(source.images)) == 17
    assert (source.images.min(), source.images.max()) == (0, 255)
    assert source.classes[source.label(299)] == str(source.labels[299])


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="split='dev' must be 'train', 'val' or 'test'"):
        Digits('dev')
    with pytest.raises(ValueError, match='labels_per_class=95 is more than the 94 images of clas'):
        Digits(labels_per_class=95)
