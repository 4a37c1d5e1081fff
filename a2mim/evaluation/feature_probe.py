"""Quality of frozen features: kNN and linear probe accuracy, and the hook that measures them.

Axes: N images, D features.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from a2mim.evaluation.epoch_probe import EpochProbe, evenly
from a2mim.interfaces import Algorithm
from a2mim.registry import DATASETS, HOOKS

TEMPERATURE = 0.07
Split = tuple[np.ndarray, np.ndarray]  # features (N, D) and labels (N,)


@torch.no_grad()
def extract_features(model: nn.Module, batches: Iterable[dict]) -> Split:
    """Features (N, D) and labels (N,) of all batches, from ``model(..., mode='tensor')``.

    Maps (B, D, h, w) are averaged over their positions. Every module is left in the mode it was in.

    Raises:
        ValueError: If a batch has no labels, or labels of several classes.
    """
    preprocess = cast(Algorithm, model).data_preprocessor
    modes = {module: module.training for module in model.modules()}
    model.eval()
    features, labels = [], []
    for batch in batches:
        batch = preprocess(batch, False)
        if batch.get('label') is None:
            raise ValueError('the images have no labels: give the data source with_labels=True')
        if batch['label'].ndim != 1:
            raise ValueError('the images have several labels each, and features are probed by one')
        output = model(image=batch['image'], mode='tensor').float()
        features.append(output.mean(dim=(2, 3)) if output.ndim == 4 else output)
        labels.append(batch['label'])
    for module, training in modes.items():
        module.training = training
    return torch.cat(features).cpu().numpy(), torch.cat(labels).cpu().numpy()


def knn_accuracy(train: Split, test: Split, *, neighbours: int = 20) -> float:
    """Accuracy, in per cent, of a vote of the nearest neighbours.

    The votes are weighted by ``exp(cosine similarity / TEMPERATURE)``.

    Args:
        train: Features (N, D) and labels (N,) of the images that vote.
        test: Features and labels of the images that are classified.
        neighbours: Number of votes.

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
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(
        neighbours,
        metric='cosine',
        algorithm='brute',
        # A callable, which pyright misses without stubs. The largest weight is 1: no overflow.
        weights=lambda d: np.exp(-d / TEMPERATURE),  # pyright: ignore[reportArgumentType]
    )
    return 100.0 * classifier.fit(*train).score(*test)


def linear_probe_accuracy(train: Split, test: Split) -> float:
    """Accuracy, in per cent, of logistic regression on standardised features.

    Args:
        train: Features (N, D) and labels (N,) to fit.
        test: Features and labels to classify.

    Raises:
        ValueError: If the training labels hold one class only.
    """
    if len(np.unique(train[1])) < 2:
        raise ValueError('a linear probe needs training images of at least two classes')
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return 100.0 * probe.fit(*train).score(*test)


@HOOKS.register_module()
class FeatureProbeHook(EpochProbe):
    """Classify some labelled images by frozen features, before, during and after pre-training.

    The loss of masked image modelling measures the reconstruction, not the features. This hook
    measures accuracies: ``probe/knn_top1`` and ``probe/linear_top1``, see ``EpochProbe``.

    Args:
        interval: Epochs from one measurement to the next; None for a twentieth of the run.
        train: Config of a data set with labels, for kNN and the fit. A few hundred images
            suffice, for example an ``ImageDataset`` whose source has ``labels_per_class``.
        test: Config of the data set that is classified. None takes the second half of each class of
            ``train``, in the order of its source, where files of one series stand together.
        neighbours: Number of votes per image.
        linear: Also fit a linear probe, which takes longer than kNN.
        batch_size: Images per forward pass.
        most: At most so many images of each of the two, evenly spread; None for all.

    Raises:
        ValueError: If a number is less than 1. Before training also if images have no labels, or
            there are fewer of them than ``neighbours``.
    """

    def __init__(
        self,
        interval: int | None,
        train: dict,
        test: dict | None = None,
        neighbours: int = 20,
        linear: bool = False,
        batch_size: int = 256,
        most: int | None = None,
    ) -> None:
        super().__init__(interval, batch_size)
        if min(neighbours, most or 1) < 1:
            raise ValueError(
                f'neighbours={neighbours} and most={most} of FeatureProbeHook must be at least 1'
            )
        self.configs = dict(train=train, test=test)
        self.neighbours = neighbours
        self.measures: dict[str, Callable[[Split, Split], float]] = {
            'probe/knn_top1': partial(knn_accuracy, neighbours=neighbours)
        }
        if linear:
            self.measures['probe/linear_top1'] = linear_probe_accuracy
        self.most = most

    def images(self, runner: Runner) -> dict[str, Dataset]:
        """The two parts; the log says how many images they have, and what to compare with."""
        parts = {split: labelled(split, config) for split, config in self.configs.items() if config}
        classes = {split: part.source.classes for split, part in parts.items()}
        if len({*classes.values()}) > 1:
            raise ValueError(
                f'FeatureProbeHook: train has the classes {classes["train"][:5]}…, and test '
                f'{classes["test"][:5]}…; give both the same'
            )
        places = {split: np.arange(len(part)) for split, part in parts.items()}
        if 'test' not in parts:
            parts['test'], places = parts['train'], halves(parts['train'])
        if self.most is not None:
            places = {split: part[evenly(len(part), self.most)] for split, part in places.items()}
        learnt, classified = map(len, places.values())
        if learnt < self.neighbours:
            raise ValueError(
                f'FeatureProbeHook: neighbours={self.neighbours} is more than the {learnt} '
                f'images of train; give more images, or fewer neighbours'
            )
        runner.logger.info(
            f'probe: {learnt} labelled images of {len(classes["train"])} classes to learn from, '
            f'{classified} to classify; compare with epoch 0, the network before pre-training'
        )
        return {split: Subset(parts[split], part.tolist()) for split, part in places.items()}

    def values(self, model: nn.Module, loaders: Mapping[str, DataLoader]) -> dict[str, float]:
        """Accuracies in per cent by name; NaN where training has diverged."""
        train, test = (extract_features(model, loader) for loader in loaders.values())
        if not (np.isfinite(train[0]).all() and np.isfinite(test[0]).all()):
            return dict.fromkeys(self.measures, np.nan)
        return {name: measure(train, test) for name, measure in self.measures.items()}


def labelled(split: str, config: dict) -> Any:
    """Build the data set of a part.

    Raises:
        ValueError: If its images have no labels.
    """
    dataset = DATASETS.build(config)
    if dataset[0].get('label') is None:
        raise ValueError(
            f'FeatureProbeHook: the images of {split} have no labels; give an ImageDataset '
            'whose source has with_labels=True'
        )
    return dataset


def halves(dataset: Any) -> dict[str, np.ndarray]:
    """Places of the first and second half of each class; the middle one is in the first.

    Raises:
        ValueError: If no class has two images, or images have several classes.
    """
    labels = np.array([dataset.source.label(index) for index in range(len(dataset))])
    if labels.ndim != 1:
        raise ValueError('the images have several labels each, and features are probed by one')
    second = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        second[of_class[(len(of_class) + 1) // 2 :]] = True
    if not second.any():
        raise ValueError(
            f'FeatureProbeHook: {len(labels)} images, one of each class, leave none to classify; '
            'give more of each'
        )
    return dict(train=np.flatnonzero(~second), test=np.flatnonzero(second))
