import pytest
import torch
from mmengine.evaluator import Evaluator

from a2mim.evaluation import Accuracy
from a2mim.evaluation.metrics import label_ranks


def evaluate(scores: torch.Tensor, labels: list[int], **options) -> dict[str, float]:
    """What a validation loop would report, in batches of four."""
    evaluator = Evaluator(dict(type='a2mim.Accuracy', **options))
    samples = [
        dict(scores=row, label=torch.tensor(label))
        for row, label in zip(scores, labels, strict=True)
    ]
    for start in range(0, len(samples), 4):
        evaluator.process(data_samples=samples[start : start + 4], data_batch={})
    return evaluator.evaluate(size=len(samples))


def test_topk_equals_torch():
    scores, labels = torch.randn(50, 10), torch.randint(10, (50,))
    found = scores.topk(5).indices == labels[:, None]
    report = evaluate(scores, labels.tolist())
    assert report == {
        'accuracy/top1': pytest.approx(100 * found[:, 0].float().mean().item()),
        'accuracy/top5': pytest.approx(100 * found.any(dim=1).float().mean().item()),
    }


def test_samples_that_fill_up_the_last_batch_do_not_count():
    metric = Accuracy()
    metric.process({}, [dict(scores=torch.eye(10)[i], label=i) for i in (0, 1)])
    metric.process({}, [dict(scores=torch.eye(10)[0], label=5)])
    assert metric.evaluate(size=2)['accuracy/top1'] == 100


def test_a_k_as_large_as_the_number_of_classes_is_left_out():
    assert evaluate(torch.eye(3), [0, 1, 0], topk=(1, 5)) == {
        'accuracy/top1': pytest.approx(200 / 3)
    }


def test_constant_scores_are_wrong_and_so_are_undefined_ones():
    scores = torch.stack([torch.zeros(4), torch.full((4,), torch.nan)])
    assert label_ranks(scores, torch.tensor([0, 3])).tolist() == [3, 3]


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match='with_labels=True'):
        Accuracy().process({}, [dict(scores=torch.zeros(4), label=None)])


@pytest.mark.parametrize('topk', [(), (0, 1)])
def test_an_impossible_k_is_refused(topk):
    with pytest.raises(ValueError, match='topk'):
        Accuracy(topk=topk)
