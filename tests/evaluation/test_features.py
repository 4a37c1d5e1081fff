import numpy as np
import pytest
import torch
from torch import nn

from a2mim.evaluation import extract_features, knn_accuracy, linear_probe_accuracy

Split = tuple[np.ndarray, np.ndarray]


def blobs(num_images: int, spread: float, seed: int) -> Split:
    """Three classes around the axes of a 5-D space."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % 3
    return 4 * np.eye(3, 5)[labels] + spread * rng.standard_normal((num_images, 5)), labels


class Backbone(nn.Module):
    """Two channels: the image, and its negative."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled

    def data_preprocessor(self, batch: dict, training: bool) -> dict:
        assert not training
        return {**batch, 'image': batch['image'].float()}

    def forward(self, image: torch.Tensor, mode: str) -> torch.Tensor:
        assert mode == 'tensor'
        assert not self.training
        features = torch.cat([image, -image], dim=1)
        return features.mean(dim=(2, 3)) if self.pooled else features


@pytest.mark.parametrize('pooled', [False, True])
def test_features_are_averaged_over_positions(pooled):
    image = torch.arange(16, dtype=torch.uint8).view(4, 1, 2, 2)
    batches = [dict(image=part, label=torch.arange(2)) for part in image.split(2)]
    features, labels = extract_features(Backbone(pooled), batches)
    mean = image.float().mean(dim=(2, 3)).numpy()
    assert np.array_equal(features, np.concatenate([mean, -mean], axis=1))
    assert labels.tolist() == [0, 1, 0, 1]


def test_a_training_model_trains_on_afterwards():
    model = Backbone(pooled=True).train()
    extract_features(model, [dict(image=torch.zeros(1, 1, 2, 2), label=torch.zeros(1))])
    assert model.training


def test_features_need_labels():
    with pytest.raises(ValueError, match='with_labels=True'):
        extract_features(Backbone(pooled=True), [dict(image=torch.zeros(1, 1, 2, 2))])


def weighted_vote(train: Split, test: Split, neighbours: int, temperature: float) -> float:
    """The rule, image by image."""
    unit = [features / np.linalg.norm(features, axis=1)[:, None] for features, _ in (train, test)]
    right = 0
    for feature, label in zip(unit[1], test[1], strict=True):
        similarity = unit[0] @ feature
        nearest = np.argsort(-similarity)[:neighbours]
        votes = np.zeros(3)
        np.add.at(votes, train[1][nearest], np.exp(similarity[nearest] / temperature))
        right += votes.argmax() == label
    return 100 * right / len(test[1])


def test_neighbours_vote_by_cosine_similarity():
    train, test = blobs(90, 3.0, 0), blobs(60, 3.0, 1)
    expected = weighted_vote(train, test, neighbours=20, temperature=0.07)
    assert 40 < expected < 100
    assert knn_accuracy(train, test) == pytest.approx(expected)


def test_fewer_images_than_neighbours_are_refused():
    with pytest.raises(ValueError, match=r'neighbours=20 .* 12 training images'):
        knn_accuracy(blobs(12, 1.0, 0), blobs(12, 1.0, 1))


def test_a_vote_of_nobody_is_refused():
    with pytest.raises(ValueError, match='neighbours=0 must be at least 1'):
        knn_accuracy(blobs(12, 1.0, 0), blobs(12, 1.0, 1), neighbours=0)


def test_a_linear_probe_tells_separable_classes_apart():
    assert linear_probe_accuracy(blobs(60, 0.1, 0), blobs(60, 0.1, 1)) == 100


def test_a_linear_probe_does_not_depend_on_the_scale_of_features():
    train, test = blobs(60, 3.0, 0), blobs(60, 3.0, 1)
    scale = np.array([1e-3, 1, 10, 1, 1e3])
    scaled = [(features * scale, labels) for features, labels in (train, test)]
    assert linear_probe_accuracy(*scaled) == pytest.approx(linear_probe_accuracy(train, test))


def test_a_linear_probe_of_one_class_is_refused():
    features, labels = blobs(6, 1.0, 0)
    with pytest.raises(ValueError, match='two classes'):
        linear_probe_accuracy((features, 0 * labels), (features, labels))
