"""What features are worth while they are learnt: kNN and a linear probe during pre-training.

The hook lives here since it needs kNN and probe, and the engine imports no evaluation.
"""

import time
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

import numpy as np
import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader

from a2mim.registry import DATASETS, HOOKS

# [features]
# What frozen features are worth: nearest neighbours and a linear classifier on top of them.
#
# Axes: N images, D features.


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


Split = tuple[np.ndarray, np.ndarray]  # features (N, D) and labels (N,)


@HOOKS.register_module()
class FeatureProbeHook(Hook):
    """Classify some labelled images by frozen features, before, during and after pre-training.

    A loss of masked image modelling says how well pixels are guessed, not what was learnt. This
    hook measures accuracies before the first epoch, where they show what the untrained network is
    worth, after every n-th epoch and after the last: ``probe/knn_top1`` and ``probe/linear_top1``
    in the log and in the visualizer's back ends, with the number of epochs as the step.

    Training does not notice: images come in evaluation mode, uncompiled, and no random number is
    drawn from a global generator. Of several processes the first one measures the network as it
    would save it, with its own batch statistics, and the others wait; a sharded network computes
    in all of them.

    Args:
        interval: Epochs from one measurement to the next.
        train: Config of a data set with labels, whose images vote and fit. A few hundred do, for
            example an ``ImageDataset`` whose source has ``labels_per_class``.
        test: Config of the data set whose images are classified.
        neighbours: Number of votes per image.
        linear: Fit a linear probe too, which takes longer than the vote.
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
        self.measures = {'probe/knn_top1': partial(knn_accuracy, neighbours=neighbours)}
        if linear:
            self.measures['probe/linear_top1'] = linear_probe_accuracy
        self.batch_size = batch_size
        self._loaders: dict[str, DataLoader] = {}
        self._waiting: distributed.ProcessGroup | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare the images in every process, and measure the network that starts."""
        for split, config in self.configs.items():
            self._loaders[split] = self._loader(runner, split, config)
        if len(self._loaders['train'].dataset) < self.neighbours:
            raise ValueError(
                f'FeatureProbeHook: neighbours={self.neighbours} is more than the '
                f'{len(self._loaders["train"].dataset)} images of train; give more images, or '
                'fewer neighbours'
            )
        if get_world_size() > 1:
            # Through gloo, since waiting processes would keep their GPUs busy with NCCL, and
            # without its limit of 10 minutes.
            self._waiting = distributed.new_group(backend='gloo', timeout=timedelta(days=1))
        if runner.iter == 0:
            self._measure(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure, if it is time to."""
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
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=runner.train_dataloader.num_workers,
            collate_fn=runner.train_dataloader.collate_fn,
            # Every pass through a loader draws a seed, which must not come from the global one.
            generator=torch.Generator(),
        )

    def _measure(self, runner: Runner, epoch: int) -> None:
        """Let the main process measure and report; nobody goes on before it is done."""
        started = time.perf_counter()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if is_main_process():
            accuracies = self._accuracies(*self._features(model))
            seconds = time.perf_counter() - started
            values = '  '.join(f'{name}: {value:.2f}' for name, value in accuracies.items())
            runner.logger.info(f'Epoch(probe) [{epoch}]  {values}  time: {seconds:.1f} s')
            runner.visualizer.add_scalars(accuracies, step=epoch)
        elif isinstance(model, FSDPModule):
            self._features(model)  # a sharded model computes in all processes or in none
        if self._waiting is not None:
            barrier(self._waiting)

    def _features(self, model: nn.Module) -> list[Split]:
        """Features and labels of the images that vote and of those that are classified."""
        # A compiled model would be compiled once more for evaluation.
        with torch.compiler.set_stance('force_eager'):
            return [extract_features(model, loader) for loader in self._loaders.values()]

    def _accuracies(self, train: Split, test: Split) -> dict[str, float]:
        """Accuracies in per cent by name; not a number where training has diverged."""
        if not (np.isfinite(train[0]).all() and np.isfinite(test[0]).all()):
            return dict.fromkeys(self.measures, np.nan)
        return {name: measure(train, test) for name, measure in self.measures.items()}
