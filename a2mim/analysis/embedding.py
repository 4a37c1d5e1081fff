"""Embeddings of pooled features of labelled images in two dimensions, by t-SNE or UMAP.

Axes: N images, D features.
"""

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from a2mim.analysis.images import AnalysisImages
from a2mim.analysis.networks import Network, measured_batches, pooled_features
from a2mim.evaluation.feature_probe import knn_accuracy

METHODS = ('tsne', 'umap')


def image_features(
    network: Network, images: AnalysisImages, batch_size: int = 64, folder: Path | None = None
) -> np.ndarray:
    """(N, D) float32, see ``pooled_features``."""

    def measure(batch: Tensor, _which: range) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return dict(features=pooled_features(network, batch).float().cpu().numpy())

    parts = measured_batches(network, images, measure, folder=folder, batch_size=batch_size)
    return np.concatenate([part['features'] for _, part in parts])


def check_embedding(method: str, number: int, neighbours: float) -> None:
    """Check method and number of images before features are computed.

    Raises:
        ValueError: If there are too few images for the method.
        ImportError: If UMAP is not installed.
    """
    if number < 3:
        raise ValueError(f'{number} image(s) cannot be embedded; give --num-images 3 or more')
    if not 1 < neighbours < number:
        name = '--perplexity' if method == 'tsne' else '--neighbours'
        raise ValueError(
            f'{name} {neighbours:g} must be more than 1 and less than the {number} images'
        )
    if method == 'umap':
        _umap()


def embed(
    features: np.ndarray, method: str = 'tsne', *, neighbours: float = 10.0, seed: int = 0
) -> np.ndarray:
    """Embed (N, D) as (N, 2) by ``'tsne'`` or ``'umap'``, deterministic for a seed.

    ``neighbours`` is the perplexity of t-SNE, or the number of neighbours of UMAP.

    Reference:
        van der Maaten and Hinton, t-SNE, JMLR 9, 2008; McInnes et al., UMAP
        (https://arxiv.org/abs/1802.03426).
    """
    check_embedding(method, len(features), neighbours)
    if method == 'tsne':
        found = TSNE(perplexity=neighbours, init='pca', random_state=seed)
        return found.fit_transform(features)
    with warnings.catch_warnings():
        # It warns that a seed means one thread, as intended here.
        warnings.simplefilter('ignore')
        return _umap().UMAP(n_neighbors=int(neighbours), random_state=seed).fit_transform(features)


def neighbour_agreement(features: np.ndarray, labels: np.ndarray, neighbours: int = 5) -> float:
    """k-NN accuracy in D dimensions, in per cent: every second image tests, the others vote."""
    train, test = (slice(0, None, 2), slice(1, None, 2))
    return knn_accuracy(
        (features[train], labels[train]),
        (features[test], labels[test]),
        neighbours=min(neighbours, len(labels[train])),
    )


def draw_embeddings(
    titles: Sequence[str], places: Sequence[np.ndarray], labels: np.ndarray, classes: Sequence[str]
) -> Figure:
    """Draw one panel per network, a dot per image (N, 2), a colour per class."""
    figure = Figure(figsize=(3.4 * len(places) + 1.6, 3.6), layout='constrained')
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    present = np.unique(labels)
    colors = colormaps['tab20'](np.arange(len(present)) % 20)
    for panel, title, place in zip(panels, titles, places, strict=True):
        for color, label in zip(colors, present, strict=True):
            chosen = place[labels == label]
            panel.scatter(chosen[:, 0], chosen[:, 1], s=12, color=color, label=classes[label])
        panel.set_title(title, fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    if len(present) <= 20:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc='outside right upper', fontsize=7)
    return figure


def _umap() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # It warns that a part that is not used here needs TensorFlow.
            warnings.simplefilter('ignore')
            return importlib.import_module('umap')
    except ImportError as error:
        raise ImportError(
            "--method umap needs the package umap-learn: pip install -e '.[analysis]'"
        ) from error
