"""Quality of frozen features: kNN and linear probe accuracy, and a hook for pre-training.

Axes: N images, D features.
"""

import time
from collections.abc import Callable, Iterable, Sized
from datetime import timedelta
from functools import partial
from typing import cast

import numpy as np
import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

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
class FeatureProbeHook(Hook):
    """Classify some labelled images by frozen features, before, during and after pre-training.

    The loss of masked image modelling measures the reconstruction, not the features. This hook
    measures accuracies before the first epoch, as the baseline of the untrained network, after
    every n-th epoch and after the last: ``probe/knn_top1`` and ``probe/linear_top1`` in the log and
    in the visualizer's back ends, with the number of epochs as the step.

    Training is not affected: the model runs in evaluation mode, uncompiled, and no random number is
    drawn from a global generator. Rank 0 measures the network as it would save it, with its own
    batch statistics, while the other processes wait; a sharded network computes in all of them.

    Args:
        interval: Epochs from one measurement to the next.
        train: Config of a data set with labels, for kNN and the fit. A few hundred images
            suffice, for example an ``ImageDataset`` whose source has ``labels_per_class``.
        test: Config of the data set that is classified.
        neighbours: Number of votes per image.
        linear: Also fit a linear probe, which takes longer than kNN.
        batch_size: Images per forward pass.

    Raises:
        ValueError: If a number is less than 1. Before training also if images have no labels, or
            there are fewer of them than ``neighbours``.
    """

    priority = 'LOW'
    only_looks = True

    def __init__(
        self,
        interval: int,
        train: dict,
        test: dict,
        neighbours: int = 20,
        linear: bool = False,
        batch_size: int = 256,
    ) -> None:
        if min(interval, neighbours, batch_size) < 1:
            raise ValueError(
                f'interval={interval}, neighbours={neighbours} and batch_size={batch_size} of '
                'FeatureProbeHook must be at least 1'
            )
        self.interval = interval
        self.configs = dict(train=train, test=test)
        self.neighbours = neighbours
        self.measures: dict[str, Callable[[Split, Split], float]] = {
            'probe/knn_top1': partial(knn_accuracy, neighbours=neighbours)
        }
        if linear:
            self.measures['probe/linear_top1'] = linear_probe_accuracy
        self.batch_size = batch_size
        self._loaders: dict[str, DataLoader] = {}
        self._waiting: distributed.ProcessGroup | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare the images in every process, and measure the initial network."""
        for split, config in self.configs.items():
            self._loaders[split] = self._loader(runner, split, config)
        num_images = len(cast(Sized, self._loaders['train'].dataset))
        if num_images < self.neighbours:
            raise ValueError(
                f'FeatureProbeHook: neighbours={self.neighbours} is more than the {num_images} '
                f'images of train; give more images, or '
                'fewer neighbours'
            )
        if get_world_size() > 1:
            # gloo, since NCCL would keep the GPUs of waiting processes busy; without its limit of
            # 10 minutes.
            group = distributed.new_group(backend='gloo', timeout=timedelta(days=1))
            self._waiting = cast(distributed.ProcessGroup, group)  # of all processes
        if runner.iter == 0:
            self._measure(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure, if the epoch is due."""
        epoch = runner.epoch + 1
        if epoch == runner.max_epochs or epoch % self.interval == 0:
            self._measure(runner, epoch)

    def _loader(self, runner: Runner, split: str, config: dict) -> DataLoader:
        """Batches of one split, read by as many workers as the training images."""
        dataset = DATASETS.build(config)
        if dataset[0].get('label') is None:
            raise ValueError(
                f'FeatureProbeHook: the images of {split} have no labels; give an ImageDataset '
                'whose source has with_labels=True'
            )
        # Workers as those of the training: whether they ignore signals is theirs to know.
        kind = type(runner.train_dataloader)
        return kind(
            dataset,
            batch_size=self.batch_size,
            num_workers=runner.train_dataloader.num_workers,
            collate_fn=runner.train_dataloader.collate_fn,
            # Every pass through a loader draws a seed, which must not come from the global one.
            generator=torch.Generator(),
        )

    def _measure(self, runner: Runner, epoch: int) -> None:
        """Let the main process measure and report, while the others wait."""
        started = time.perf_counter()
        wrapped = is_model_wrapper(runner.model)
        model = cast(Algorithm, runner.model.module if wrapped else runner.model)
        if is_main_process():
            accuracies = self._accuracies(*self._features(model))
            seconds = time.perf_counter() - started
            values = '  '.join(f'{name}: {value:.2f}' for name, value in accuracies.items())
            runner.logger.info(f'Epoch(probe) [{epoch}]  {values}  time: {seconds:.1f} s')
            runner.visualizer.add_scalars(accuracies, step=epoch)
        elif any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            self._features(model)  # a sharded model computes in all processes or in none
        if self._waiting is not None:
            barrier(self._waiting)

    def _features(self, model: nn.Module) -> list[Split]:
        """Features and labels of both data sets."""
        # A compiled model would be compiled once more for evaluation.
        with torch.compiler.set_stance('force_eager'):
            return [extract_features(model, loader) for loader in self._loaders.values()]

    def _accuracies(self, train: Split, test: Split) -> dict[str, float]:
        """Accuracies in per cent by name; NaN where training has diverged."""
        if not (np.isfinite(train[0]).all() and np.isfinite(test[0]).all()):
            return dict.fromkeys(self.measures, np.nan)
        return {name: measure(train, test) for name, measure in self.measures.items()}
