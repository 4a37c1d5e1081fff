"""Accuracy class by class, and which class an image is taken for. Axes: B images, K classes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from a2mim.evaluation.accuracy import label_ranks, scores_and_labels
from a2mim.evaluation.gathered_metric import GatheredMetric
from a2mim.registry import METRICS


@dataclass(frozen=True)
class ClassReport:
    """How the images of one class fared.

    Args:
        name: The class.
        images: How many there are.
        top1: Share of them, in per cent, for which the class has the highest score.
        confused_with: The class that most of the others are taken for; None if there are none.
        confusions: How many images are taken for that one.
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

    Args:
        kwargs: Arguments of mmengine's ``BaseMetric``.

    Shape:
        predictions: one dict per image with ``scores`` (K,) and the ``label``, a class index.

    Raises:
        ValueError: If an image has no label.
    """

    default_prefix = 'accuracy'

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.classes: list[ClassReport] = []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the label of every image, and the class that it is taken for."""
        scores, labels = scores_and_labels(data_samples)
        # A tie counts against the label, as in Accuracy: what is taken instead is another class.
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
        # Of equals the first class, whatever the order in which images came.
        rival = min(counts, key=lambda number: (-counts[number], number), default=None)
        confused_with = None if rival is None else name_of(rival)
        accuracy = 100.0 * correct / images
        reports.append(
            ClassReport(name_of(label), images, accuracy, confused_with, counts.get(rival, 0))
        )
    return sorted(reports, key=lambda report: report.top1)
