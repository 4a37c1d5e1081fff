"""Top-k accuracy of a classifier per stage of a trunk. Axes: S stages, K classes."""

from collections.abc import Sequence

import torch

from a2mim.evaluation.accuracy import label_ranks
from a2mim.evaluation.gathered_metric import GatheredMetric
from a2mim.registry import METRICS


@METRICS.register_module()
class StageAccuracy(GatheredMetric):
    """Share of images, in per cent, whose label a stage gives one of its k highest scores.

    Reported as ``accuracy/stage{s}_top{k}``, s counted from 1.

    Args:
        topk: The k to report.
        kwargs: Arguments of mmengine's ``BaseMetric``.

    Shape:
        predictions: one dict per image with ``scores`` (S, K) and the ``label``, a class index.

    Raises:
        ValueError: If ``topk`` is empty or holds a number below 1.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not topk or min(topk) < 1:
            raise ValueError(f'topk={topk} must list numbers of at least 1, such as (1, 5)')
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note at which rank every stage has the label of every image, 0 for the best score."""
        for sample in data_samples:
            labels = torch.as_tensor(sample['label']).expand(len(sample['scores']))  # (S,)
            self.results.append(label_ranks(sample['scores'], labels).tolist())

    def compute_metrics(self, results: list[list[int]]) -> dict[str, float]:
        """Accuracies over all images of all processes."""
        ranks = torch.tensor(results)  # (N, S)
        return {
            f'stage{stage}_top{k}': 100.0 * (of_stage < k).double().mean().item()
            for stage, of_stage in enumerate(ranks.T, start=1)
            for k in self.topk
        }
