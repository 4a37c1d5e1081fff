"""StageAccuracy: Accuracy, stage by stage."""

import pytest
import torch

from a2mim.evaluation import StageAccuracy


def test_every_stage_is_counted_by_itself():
    first = dict(scores=torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]), label=0)
    second = dict(scores=torch.tensor([[0.1, 0.7, 0.2], [0.2, 0.7, 0.1]]), label=torch.tensor(2))
    metric = StageAccuracy(topk=(1, 2))
    metric.process({}, [first])
    metric.process({}, [second])
    assert metric.evaluate(size=2) == {
        'accuracy/stage1_top1': 50.0,
        'accuracy/stage1_top2': 100.0,
        'accuracy/stage2_top1': 0.0,
        'accuracy/stage2_top2': 50.0,
    }


def test_a_k_below_1_is_refused():
    with pytest.raises(ValueError, match='topk'):
        StageAccuracy(topk=(0,))
