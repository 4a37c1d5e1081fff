"""Top-k accuracy of a classifier. Axes: B images, K classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from a2mim.evaluation.gathered_metric import GatheredMetric
from a2mim.registry import METRICS


@METRICS.register_module()
class Accuracy(GatheredMetric):
    """Share of images, in per cent, whose label is among the k highest scores.

    Args:
        topk: The k to report, as ``accuracy/top{k}``. A k that is no less than the number of
            classes is left out, since it would always give 100.
        kwargs: Arguments of mmengine's ``BaseMetric``.

    Shape:
        predictions: one dict per image with ``scores`` (K,) and the ``label``, a class index.

    Raises:
        ValueError: If ``topk`` is empty or holds a number below 1, or an image has no label.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not topk or min(topk) < 1:
            raise ValueError(f'topk={topk} must list numbers of at least 1, such as (1, 5)')
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note at which rank the label of every image came, 0 for the best score."""
        scores, labels = scores_and_labels(data_samples)
        num_classes = scores.shape[1]
        self.results += [(rank, num_classes) for rank in label_ranks(scores, labels).tolist()]

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Accuracies over all images of all processes."""
        ranks = torch.tensor([rank for rank, _ in results])
        num_classes = results[0][1]
        reported = [k for k in self.topk if k == 1 or k < num_classes]
        return {f'top{k}': 100.0 * (ranks < k).double().mean().item() for k in reported}


def scores_and_labels(samples: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Scores (B, K) and labels (B,) of a batch of predictions.

    Raises:
        ValueError: If an image has no label.
    """
    if any(sample['label'] is None for sample in samples):
        raise ValueError('accuracy needs labels: give the data source with_labels=True')
    scores = torch.stack([sample['scores'] for sample in samples])
    return scores, torch.stack([torch.as_tensor(sample['label']) for sample in samples])


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Number of classes that score at least as high as the label, itself apart: (B,).

    Ties count against the label, so that a network with constant scores is not always right.
    """
    own = scores.gather(1, labels[:, None])
    return (~(scores < own)).sum(dim=1) - 1
