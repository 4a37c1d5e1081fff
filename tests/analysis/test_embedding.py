"""Embeddings: the same for a seed, and what cannot be embedded."""

import sys

import numpy as np
import pytest

from a2mim.analysis.embedding import check_embedding, embed, neighbour_agreement


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Two clouds of 12 that do not touch, their classes by turns."""
    labels = np.arange(24) // 2 % 2
    noise = np.random.default_rng(0).normal(size=(24, 5)) * 0.01
    return (np.eye(5)[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize(
    'method',
    ['tsne', pytest.param('umap', marks=pytest.mark.integration)],  # compiled by numba
)
def test_clouds_stay_apart_at_places_that_the_seed_decides(method: str) -> None:
    features, labels = clusters()
    first, second = (embed(features, method, neighbours=5.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (24, 2)
    assert neighbour_agreement(first - first.mean(axis=0), labels) == 100


def test_separate_clouds_agree_and_swapped_labels_do_not() -> None:
    features, labels = clusters()
    assert neighbour_agreement(features, labels) == 100
    mixed = labels.copy()
    mixed[1::2] = 1 - mixed[1::2]
    assert neighbour_agreement(features, mixed) == 0


@pytest.mark.parametrize(
    ('number', 'neighbours', 'message'),
    [
        (1, 10.0, '1 image.s. cannot be embedded; give --num-images 3 or more'),
        (10, 10.0, '--perplexity 10 must be more than 1 and less than the 10 images'),
        (10, 0.5, '--perplexity 0.5 must be more than 1'),
    ],
)
def test_too_few_images_are_refused(number: int, neighbours: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_embedding('tsne', number, neighbours)


def test_missing_umap_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match=r"umap-learn: pip install -e '\.\[analysis\]'"):
        check_embedding('umap', 20, 10)
