"""ImageClassifier: timm's own model and head, whole or as a linear probe."""

import pytest
import timm
import torch

from a2mim.models import ImageClassifier

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0] * 3, std=[64.0] * 3)


def build(model_name: str = 'resnet10t', num_classes: int = 5, **options) -> ImageClassifier:
    backbone = dict(type='TimmBackbone', model_name=model_name, num_classes=num_classes)
    loss = dict(type='CrossEntropyLoss')
    return ImageClassifier(backbone, loss, data_preprocessor=PREPROCESSOR, **options)


@pytest.mark.parametrize('name', ['resnet10t', 'convnext_atto', 'vit_tiny_patch16_224'])
def test_logits_are_timms_and_weights_load_in_timm(name):
    classifier = build(name).eval()
    twin = timm.create_model(name, num_classes=5).eval()
    twin.load_state_dict(classifier.backbone.model.state_dict())
    size = 224 if name.startswith('vit') else 64
    image = torch.randn(1, 3, size, size)
    torch.testing.assert_close(classifier.logits(image), twin(image))


def test_predict_gives_probabilities_and_the_label_of_each_image():
    predictions = build().eval()(torch.randn(3, 3, 64, 64), torch.tensor([0, 4, 2]), 'predict')
    assert [int(p['label']) for p in predictions] == [0, 4, 2]
    assert all(p['scores'].sum().item() == pytest.approx(1) for p in predictions)


def test_soft_labels_are_learnt_from():
    loss = dict(type='SoftTargetCrossEntropy')
    backbone = dict(type='TimmBackbone', model_name='resnet10t', num_classes=5)
    classifier = ImageClassifier(backbone, loss, data_preprocessor=PREPROCESSOR)
    label = torch.full((2, 5), 0.2)
    assert classifier(torch.randn(2, 3, 64, 64), label, 'loss')['loss'].requires_grad


def test_labels_of_several_classes_are_learnt_from_by_binary_cross_entropy():
    backbone = dict(type='TimmBackbone', model_name='resnet10t', num_classes=3)
    loss = dict(type='BinaryCrossEntropy', smoothing=0.0, pos_weight=[1.0, 2.0, 4.0])
    classifier = ImageClassifier(backbone, loss, data_preprocessor=PREPROCESSOR).eval()
    image, label = torch.randn(2, 3, 64, 64), torch.tensor([[1, 0, 1], [0, 0, 0]])
    p, y = classifier.logits(image).sigmoid().double(), label.double()
    factor = torch.tensor([1.0, 2.0, 4.0])
    expected = -(factor * y * p.log() + (1 - y) * (1 - p).log()).mean().item()
    for kind in (torch.uint8, torch.float32):
        value = classifier(image, label.to(kind), 'loss')['loss'].item()
        assert value == pytest.approx(expected, rel=1e-5)


def test_images_with_several_classes_have_a_probability_of_each():
    label = torch.tensor(
        [[1, 0, 1], [0, 0, 0]], dtype=torch.uint8
    )  # of a list without classes 3, 4
    classifier, image = build().eval(), torch.randn(2, 3, 64, 64)
    predictions = classifier(image, label, 'predict')
    scores = torch.stack([p['scores'] for p in predictions])
    torch.testing.assert_close(scores, classifier.logits(image).sigmoid())
    assert [p['label'].tolist() for p in predictions] == [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    'loss', ['CrossEntropyLoss', 'SoftTargetCrossEntropy', 'LabelSmoothingCrossEntropy']
)
def test_a_softmax_over_several_classes_is_refused(loss):
    backbone = dict(type='TimmBackbone', model_name='resnet10t', num_classes=3)
    classifier = ImageClassifier(backbone, dict(type=loss), data_preprocessor=PREPROCESSOR)
    label = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"loss={loss} .*type='BinaryCrossEntropy'"):
        classifier(torch.randn(2, 3, 64, 64), label, 'loss')


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_class_weights_of_a_list_are_those_of_the_formula(smoothing):
    weights = torch.tensor([1.0, 5.0, 2.0])
    options = dict(type='CrossEntropyLoss', weight=weights.tolist(), label_smoothing=smoothing)
    backbone = dict(type='TimmBackbone', model_name='resnet10t', num_classes=3)
    classifier = ImageClassifier(backbone, options, data_preprocessor=PREPROCESSOR).eval()
    image, label = torch.randn(4, 3, 64, 64), torch.tensor([0, 2, 1, 1])
    log_p = classifier.logits(image).log_softmax(1)
    target = torch.eye(3)[label] * (1 - smoothing) + smoothing / 3
    expected = -(target * weights * log_p).sum() / weights[label].sum()
    torch.testing.assert_close(classifier(image, label, 'loss')['loss'], expected)
    assert not any('weight' in name for name in classifier.state_dict() if 'loss' in name)


@pytest.mark.parametrize(
    ('weight', 'found'),
    [
        ([1.0, 2.0], 'weight has 2 numbers, but the classifier 5'),
        ([1, 1, 1, 1, -1], 'must be numbers of at least 0'),
        ([1, 1, 1, 1, float('nan')], 'must be numbers'),
        ([0, 0, 0, 0, 0], 'must be numbers'),
    ],
)
@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'BinaryCrossEntropy'])
def test_weights_that_do_not_fit_the_classes_are_refused(loss, weight, found):
    backbone = dict(type='TimmBackbone', model_name='resnet10t', num_classes=5)
    with pytest.raises(ValueError, match=found):
        ImageClassifier(backbone, dict(type=loss, weight=weight), data_preprocessor=PREPROCESSOR)


def test_a_linear_probe_trains_its_head_only():
    probe = build(frozen_trunk=True).train()
    probe(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), 'loss')['loss'].backward()
    trained = [name for name, p in probe.named_parameters() if p.grad is not None]
    assert trained == ['backbone.model.fc.weight', 'backbone.model.fc.bias']


def test_a_linear_probe_leaves_batch_statistics_alone():
    probe = build(frozen_trunk=True).train()
    before = probe.backbone.model.bn1.running_mean.clone()
    probe(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), 'loss')
    assert torch.equal(probe.backbone.model.bn1.running_mean, before)


def test_a_backbone_without_classes_is_refused():
    with pytest.raises(ValueError, match='num_classes'):
        build(num_classes=0)


@pytest.mark.parametrize('std', [0.01, 0.02])
def test_the_head_starts_from_a_normal_of_that_deviation(std):
    head = build(num_classes=1000, head_init_std=std).backbone.model.fc
    assert head.weight.std().item() == pytest.approx(std, rel=0.02)
    assert not head.bias.any()
