import pytest
import torch

from a2mim.evaluation import Accuracy, ClassReport, PerClassAccuracy

CLASSES = dict(classes=('cat', 'dog', 'owl'))


def evaluated(scores: torch.Tensor, labels: list[int], meta: dict | None) -> PerClassAccuracy:
    """The metric after a validation loop, in batches of four; ``mean`` is what it reports."""
    metric = PerClassAccuracy()
    metric.dataset_meta = meta
    samples = [dict(scores=row, label=label) for row, label in zip(scores, labels, strict=True)]
    for start in range(0, len(samples), 4):
        metric.process({}, samples[start : start + 4])
    metric.mean = metric.evaluate(size=len(samples))['accuracy/mean_of_classes']
    return metric


def test_classes_come_worst_first_with_what_they_are_taken_for():
    predictions = torch.tensor([0, 0, 1, 2, 2, 0, 2])
    labels = [0, 0, 0, 0, 0, 1, 2]
    metric = evaluated(torch.eye(3)[predictions], labels, CLASSES)
    assert metric.classes == [
        ClassReport('dog', 1, 0.0, 'cat', 1),
        ClassReport('cat', 5, 40.0, 'owl', 2),
        ClassReport('owl', 1, 100.0, None, 0),
    ]
    assert metric.mean == pytest.approx(140 / 3)


def test_of_equal_confusions_the_first_class_is_named():
    scores = torch.eye(3)[[2, 1]]
    assert evaluated(scores, [0, 0], CLASSES).classes[0].confused_with == 'dog'


@pytest.mark.parametrize('meta', [None, {}, dict(classes=())])
def test_classes_without_names_are_numbered(meta):
    metric = evaluated(torch.eye(3)[[0, 2]], [0, 1], meta)
    assert [(report.name, report.confused_with) for report in metric.classes] == [
        ('1', '2'),
        ('0', None),
    ]


def test_a_tie_counts_against_the_label_as_it_does_in_accuracy():
    scores = torch.stack([torch.tensor([1.0, 1.0, 0.0]), torch.full((3,), torch.nan)])
    report = evaluated(scores, [0, 0], CLASSES).classes[0]
    assert report == ClassReport('cat', 2, 0.0, 'dog', 2)


def test_all_classes_together_give_the_accuracy_of_all_images():
    scores, labels = torch.randn(60, 7).round(decimals=1), torch.randint(7, (60,)).tolist()
    metric, accuracy = evaluated(scores, labels, None), Accuracy()
    accuracy.process({}, [dict(scores=s, label=n) for s, n in zip(scores, labels, strict=True)])
    hits = sum(report.images * report.top1 for report in metric.classes) / 60
    assert hits == pytest.approx(accuracy.evaluate(size=60)['accuracy/top1'])
    assert sum(report.images for report in metric.classes) == 60


def test_samples_that_fill_up_the_last_batch_do_not_count():
    metric = PerClassAccuracy()
    metric.process({}, [dict(scores=torch.eye(3)[i], label=i) for i in (0, 1)])
    metric.process({}, [dict(scores=torch.eye(3)[0], label=2)])
    metric.evaluate(size=2)
    assert [report.name for report in metric.classes] == ['0', '1']


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match='with_labels=True'):
        PerClassAccuracy().process({}, [dict(scores=torch.zeros(4), label=None)])
