"""What frozen features are worth: nearest neighbours and a linear classifier on top of them.

Axes: N images, D features.
"""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn


@torch.no_grad()
def extract_features(model: nn.Module, batches: Iterable[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and labels (N,) of all batches, from ``model(..., mode='tensor')``.

    Maps (B, D, h, w) are averaged over their positions. Every module is left in the mode it was in.

    Raises:
        ValueError: If a batch has no labels.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    features, labels = [], []
    for batch in batches:
        batch = model.data_preprocessor(batch, False)
        if batch.get('label') is None:
            raise ValueError('the images have no labels: give the data source with_labels=True')
        output = model(image=batch['image'], mode='tensor').float()
        features.append(output.mean(dim=(2, 3)) if output.ndim == 4 else output)
        labels.append(batch['label'])
    for module, training in modes.items():
        module.training = training
    return torch.cat(features).cpu().numpy(), torch.cat(labels).cpu().numpy()


def knn_accuracy(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy, in per cent, of a vote of the nearest neighbours.

    The votes are weighted by ``exp(cosine similarity / temperature)``.

    Args:
        train: Features (N, D) and labels (N,) of the images that vote.
        test: Features and labels of the images that are classified.
        neighbours: Number of votes.
        temperature: The lower, the more the nearest one counts.

    Raises:
        ValueError: If ``neighbours`` is less than 1, or more than there are training images.

    Reference:
        Wu et al., instance discrimination, CVPR 2018 (https://arxiv.org/abs/1805.01978), sec. 3.4.
    """
    if not 1 <= neighbours <= len(train[0]):
        raise ValueError(
            f'neighbours={neighbours} must be at least 1 and not more than the {len(train[0])} '
            'training images'
        )
    classifier = KNeighborsClassifier(
        neighbours,
        metric='cosine',
        algorithm='brute',
        # The largest weight is 1, so that nothing overflows at a low temperature.
        weights=lambda distance: np.exp(-distance / temperature),
    )
    return 100.0 * classifier.fit(*train).score(*test)


def linear_probe_accuracy(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Accuracy, in per cent, of logistic regression on standardised features.

    Args:
        train: Features (N, D) and labels (N,) to fit.
        test: Features and labels to classify.

    Raises:
        ValueError: If the training labels hold one class only.
    """
    if len(np.unique(train[1])) < 2:
        raise ValueError('a linear probe needs training images of at least two classes')
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return 100.0 * probe.fit(*train).score(*test)
