"""Batches cover all images once, whatever their size, and are kept where a folder is given."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from a2mim.analysis import AnalysisImages, Network, read_network
from a2mim.analysis.networks import measured_batches


@pytest.fixture(scope='module')
def network() -> Network:
    return read_network('random:test_vit')


def means(batch: Tensor, which: range) -> dict[str, np.ndarray]:
    assert len(batch) == len(which)
    return dict(means=batch.mean(dim=(1, 2, 3)).numpy(), which=np.array(which))


@pytest.mark.parametrize('batch_size', [1, 3, 5, 64])
def test_every_image_is_in_one_batch(network: Network, batch_size: int) -> None:
    images = AnalysisImages('photos', 5)
    found = list(measured_batches(network, images, means, folder=None, batch_size=batch_size))
    assert [index for which, _ in found for index in which] == list(range(5))
    expected = network.normalize(images.pixels(network.image_size)).mean(dim=(1, 2, 3))
    values = np.concatenate([part['means'] for _, part in found])
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_kept_batches_are_not_measured_again(network: Network, tmp_path: Path) -> None:
    images = AnalysisImages('photos', 5)
    options = dict(folder=tmp_path, batch_size=2, seed=1)
    first = [part['means'] for _, part in measured_batches(network, images, means, **options)]

    def never(_batch: Tensor, _which: range) -> dict[str, np.ndarray]:
        raise AssertionError('measured again')

    again = [part['means'] for _, part in measured_batches(network, images, never, **options)]
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(first))


def test_other_settings_and_images_are_measured_beside(network: Network, tmp_path: Path) -> None:
    few, more = AnalysisImages('photos', 2), AnalysisImages('photos', 3)
    numbers = []

    def count(batch: Tensor, which: range) -> dict[str, np.ndarray]:
        numbers.append(len(which))
        return means(batch, which)

    for images, seed in ((few, 1), (few, 2), (more, 1), (few, 1)):
        list(measured_batches(network, images, count, folder=tmp_path, batch_size=4, seed=seed))
    assert numbers == [2, 2, 3]
    assert len(list(tmp_path.iterdir())) == 3
