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
