"""Mean average precision against scikit-learn's, with ties and classes without images."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from sklearn.metrics import average_precision_score

from a2mim.evaluation import Accuracy, MeanAveragePrecision, PerClassAccuracy, StageAccuracy


def evaluate(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """What a validation loop would report, in batches of four."""
    evaluator = Evaluator(dict(type='a2mim.MeanAveragePrecision'))
    samples = [dict(scores=row, label=label) for row, label in zip(scores, labels, strict=True)]
    for start in range(0, len(samples), 4):
        evaluator.process(data_samples=samples[start : start + 4], data_batch={})
    (value,) = evaluator.evaluate(size=len(samples)).values()
    return value


@pytest.mark.parametrize('levels', [2, 5, 10**6])
@pytest.mark.parametrize('images', [7, 50])
def test_it_is_that_of_scikit_learn(levels, images):
    scores = torch.randint(levels, (images, 6)) / levels
    labels = (torch.rand(images, 6) < 0.3).to(torch.uint8)
    labels[0] = 1
    labels[:, 2] = 0  # a class without an image
    expected = [
        average_precision_score(labels[:, k].numpy(), scores[:, k].numpy()) for k in (0, 1, 3, 4, 5)
    ]
    assert evaluate(scores, labels) == pytest.approx(100 * sum(expected) / 5)


def test_one_class_per_image_is_a_set_of_one():
    scores, labels = torch.rand(20, 3), torch.randint(3, (20,))
    assert evaluate(scores, labels) == evaluate(scores, torch.eye(3)[labels])


def test_undefined_scores_are_the_share_of_the_class():
    labels = torch.tensor([[1], [0], [0], [1], [0]])
    assert evaluate(torch.full((5, 1), torch.nan), labels) == pytest.approx(40)


def test_it_has_the_name_by_which_a_checkpoint_is_chosen():
    metric = MeanAveragePrecision()
    metric.process({}, [dict(scores=torch.rand(2), label=torch.tensor([1, 0]))])
    assert metric.evaluate(size=1) == {'accuracy/mAP': 100}


@pytest.mark.parametrize('label', [None, torch.zeros(2)])
def test_images_without_classes_are_refused(label):
    metric = MeanAveragePrecision()
    with pytest.raises(ValueError, match=r'needs labels|no image of the evaluation has a class'):
        metric.process({}, [dict(scores=torch.rand(2), label=label)])
        metric.evaluate(size=1)


@pytest.mark.parametrize('kind', [Accuracy, PerClassAccuracy, StageAccuracy])
def test_accuracy_of_several_classes_is_refused(kind):
    scores = torch.rand(3, 2) if kind is StageAccuracy else torch.rand(2)
    with pytest.raises(ValueError, match='MeanAveragePrecision'):
        kind().process({}, [dict(scores=scores, label=torch.tensor([1, 1]))])
