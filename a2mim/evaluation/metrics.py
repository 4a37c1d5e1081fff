"""Metrics of a classifier: top-k accuracy, per class and per stage, and mean average precision.

Axes: B images, K classes, S stages.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.nn.functional import one_hot

from a2mim.registry import METRICS


class GatheredMetric(BaseMetric):
    """mmengine's ``BaseMetric``, which collects results through the process group.

    mmengine's default is a folder below the working directory, which two machines need not share:
    their first validation would end with a missing file. The other way is called ``'gpu'`` and
    works on the CPU as well.
    """

    default_prefix = 'accuracy'

    def __init__(self) -> None:
        super().__init__(collect_device='gpu')


@METRICS.register_module()
class Accuracy(GatheredMetric):
    """Share of images, in per cent, whose label is among the k highest scores.

    Args:
        topk: The k to report, as ``accuracy/top{k}``. A k that is no less than the number of
            classes is left out, since it would always give 100.

    Shape:
        predictions: one dict per image with ``scores`` (K,) and the ``label``, a class index.

    Raises:
        ValueError: If ``topk`` is empty or holds a number below 1, or an image has no label.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__()
        if not topk or min(topk) < 1:
            raise ValueError(f'topk={topk} must list numbers of at least 1, such as (1, 5)')
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the rank of every image's label, 0 for the best score."""
        scores, labels = scores_and_labels(data_samples)
        num_classes = scores.shape[1]
        self.results += [(rank, num_classes) for rank in label_ranks(scores, labels).tolist()]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Accuracies over all images of all processes."""
        ranks = torch.tensor([rank for rank, _ in results])
        num_classes = results[0][1]
        reported = [k for k in self.topk if k == 1 or k < num_classes]
        return {f'top{k}': 100.0 * (ranks < k).double().mean().item() for k in reported}


@METRICS.register_module()
class StageAccuracy(Accuracy):
    """``Accuracy`` of every stage of a backbone, as ``accuracy/stage{s}_top{k}``, s from 1.

    Args:
        topk: The k to report.

    Shape:
        predictions: one dict per image with ``scores`` (S, K) and the ``label``, a class index.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the rank of every image's label in every stage, 0 for the best score."""
        require_one_class(data_samples)
        for sample in data_samples:
            labels = torch.as_tensor(sample['label']).expand(len(sample['scores']))  # (S,)
            self.results.append(label_ranks(sample['scores'], labels).tolist())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Accuracies over all images of all processes."""
        ranks = torch.tensor(results)  # (N, S)
        return {
            f'stage{stage}_top{k}': 100.0 * (of_stage < k).double().mean().item()
            for stage, of_stage in enumerate(ranks.T, start=1)
            for k in self.topk
        }


def scores_and_labels(samples: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Scores (B, K) and labels (B,) of a batch of predictions.

    Raises:
        ValueError: If an image has no label, or labels of several classes.
    """
    require_one_class(samples)
    scores = torch.stack([sample['scores'] for sample in samples])
    return scores, torch.stack([torch.as_tensor(sample['label']) for sample in samples])


def require_one_class(samples: Sequence[dict]) -> None:
    """Refuse predictions without a label, or with labels of several classes.

    Raises:
        ValueError: If there are any.
    """
    if any(sample['label'] is None for sample in samples):
        raise ValueError('accuracy needs labels: give the data source with_labels=True')
    if any(torch.as_tensor(sample['label']).ndim for sample in samples):
        raise ValueError(
            'accuracy needs one class per image, and these have several; set '
            "val_evaluator=dict(type='MeanAveragePrecision')"
        )


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Number of other classes that score at least as high as the label: (B,).

    Ties count against the label, so that a network with constant scores is not always right.
    """
    own = scores.gather(1, labels[:, None])
    return (~(scores < own)).sum(dim=1) - 1


@METRICS.register_module()
class MeanAveragePrecision(GatheredMetric):
    """Mean over the classes of the average precision, in per cent, as ``accuracy/mAP``.

    For images with several classes. A class is a ranking of all images by its score; classes
    without an image are left out.

    Shape:
        predictions: one dict per image with ``scores`` (K,) and the ``label``, (K,) with 1 for each
            class of the image, or a class index.

    Raises:
        ValueError: If an image has no label, or no image has a class.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note scores and labels of every image."""
        for sample in data_samples:
            scores = sample['scores']
            if sample['label'] is None:
                raise ValueError('mAP needs labels: give the data source a list with labels')
            label = torch.as_tensor(sample['label'])
            self.results.append((scores, one_hot(label, len(scores)) if label.ndim == 0 else label))

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean over all images of all processes."""
        scores, labels = (torch.stack(part) for part in zip(*results, strict=True))  # (N, K)
        present = labels.any(dim=0).nonzero().flatten().tolist()
        if not present:
            raise ValueError('no image of the evaluation has a class: mAP has no value')
        values = [average_precision(scores[:, k], labels[:, k]) for k in present]
        return {'mAP': 100.0 * sum(values) / len(values)}


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Area under precision over recall as a step function; equal scores are one step.

    Shape:
        scores: (N,); NaN counts as the lowest score.
        labels: (N,), 1 for images of the class, at least one, else 0.
    """
    ordered, order = scores.double().nan_to_num(nan=-torch.inf).sort(descending=True)
    hits = labels[order].double().cumsum(0)
    ends = torch.cat([ordered[1:] != ordered[:-1], torch.ones(1, dtype=torch.bool)])
    precision = hits / torch.arange(1, len(hits) + 1)
    gained = torch.diff(hits[ends], prepend=hits.new_zeros(1))
    return ((precision[ends] * gained).sum() / hits[-1]).item()


@dataclass(frozen=True)
class ClassReport:
    """Result of the images of one class.

    Args:
        name: The class.
        images: Their number.
        top1: Share of them, in per cent, that are classified correctly.
        confused_with: The most frequent wrong prediction; None if there is none.
        confusions: Number of images with that prediction.
    """

    name: str
    images: int
    top1: float
    confused_with: str | None
    confusions: int


@METRICS.register_module()
class PerClassAccuracy(GatheredMetric):
    """Top-1 accuracy of every class, in per cent.

    The mean over the classes, each with the same weight, is reported as
    ``accuracy/mean_of_classes``. The classes themselves are in ``classes`` of the main process
    once the metric is evaluated, the worst first; a class without images is left out. Names are
    those of the data set, or numbers where it gives none.

    Shape:
        predictions: one dict per image with ``scores`` (K,) and the ``label``, a class index.

    Raises:
        ValueError: If an image has no label.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classes: list[ClassReport] = []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the label and the prediction of every image."""
        scores, labels = scores_and_labels(data_samples)
        # A tie counts against the label, as in Accuracy: the prediction is another class.
        others = scores.scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
        predictions = torch.where(label_ranks(scores, labels) == 0, labels, others)
        self.results += zip(labels.tolist(), predictions.tolist(), strict=True)

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Fill ``classes`` from all images of all processes, and average over it."""
        names = (self.dataset_meta or {}).get('classes', ())
        self.classes = class_reports(results, names)
        total = sum(report.top1 for report in self.classes)
        return {'mean_of_classes': total / len(self.classes)}


def class_reports(pairs: Iterable[tuple[int, int]], names: Sequence[str]) -> list[ClassReport]:
    """One report per label that occurs, the worst first and equals in the order of classes.

    Args:
        pairs: Label and predicted class of every image.
        names: Names of the classes by number, or none.
    """
    taken_for: dict[int, Counter[int]] = {}
    for label, prediction in pairs:
        taken_for.setdefault(label, Counter())[prediction] += 1

    def name_of(number: int) -> str:
        return str(names[number]) if number < len(names) else str(number)

    reports = []
    for label, counts in sorted(taken_for.items()):
        images = counts.total()
        correct = counts.pop(label, 0)
        # Of equals the first class, whatever the order of the images.
        confusions, number = max(((n, -rival) for rival, n in counts.items()), default=(0, 0))
        confused_with = name_of(-number) if confusions else None
        accuracy = 100.0 * correct / images
        reports.append(ClassReport(name_of(label), images, accuracy, confused_with, confusions))
    return sorted(reports, key=lambda report: report.top1)
