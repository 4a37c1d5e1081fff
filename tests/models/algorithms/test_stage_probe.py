"""StageProbe: one linear layer per stage, on features that stay as they are."""

import pytest
import timm
import torch
from torch import nn

from a2mim.models import StageProbe

PREPROCESSOR = dict(type='ImagePreprocessor', mean=[128.0] * 3, std=[64.0] * 3)


def build(model_name: str = 'resnet10t', stages: tuple = (1, 2, 3, 4)) -> StageProbe:
    backbone = dict(type='TimmBackbone', model_name=model_name)
    loss = dict(type='CrossEntropyLoss')
    return StageProbe(backbone, loss, PREPROCESSOR, stages=stages, num_classes=5)


def test_stages_of_resnet_50_are_averaged_to_the_published_grids():
    with torch.device('meta'):
        probe = build('resnet50', (0, 1, 2, 3, 4))
    grids = [read[0].output_size for read in probe.readers]
    assert grids == [12, 6, 4, 3, 2]
    assert [read[-1].in_features for read in probe.readers] == [9216, 9216, 8192, 9216, 8192]


def test_logits_are_a_linear_map_of_normalised_averages():
    probe = build().eval()
    image = torch.randn(2, 3, 64, 64)
    twin = timm.create_model('resnet10t', num_classes=0).eval()
    twin.load_state_dict(probe.backbone.model.state_dict())
    x = twin.maxpool(twin.act1(twin.bn1(twin.conv1(image))))
    x = twin.layer2(twin.layer1(x))
    linear = probe.readers[1][-1]
    averages = nn.functional.adaptive_avg_pool2d(x, 8)  # 128 channels
    expected = linear(averages.flatten(1) / (1 + 1e-5) ** 0.5)  # fresh statistics: 0 and 1
    assert probe(image).shape == (2, 4, 5)
    torch.testing.assert_close(probe(image)[:, 1], expected)


def test_each_stage_has_its_loss_and_the_linear_layers_alone_learn():
    probe = build().train()
    losses = probe(torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 4]), 'loss')
    assert list(losses) == ['loss_stage1', 'loss_stage2', 'loss_stage3', 'loss_stage4']
    sum(losses.values()).backward()
    trained = {name for name, p in probe.named_parameters() if p.grad is not None}
    assert trained == {f'readers.{i}.3.{kind}' for i in range(4) for kind in ('weight', 'bias')}


def test_batch_statistics_move_behind_the_trunk_alone():
    probe = build().train()
    before = {name: buffer.clone() for name, buffer in probe.named_buffers()}
    probe(torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 4]), 'loss')
    moved = {name for name, buffer in probe.named_buffers() if not buffer.equal(before[name])}
    assert moved
    assert all(name.startswith('readers.') for name in moved)


def test_predictions_have_the_probabilities_of_every_stage():
    predictions = build().eval()(torch.randn(2, 3, 64, 64), torch.tensor([0, 4]), 'predict')
    assert [int(p['label']) for p in predictions] == [0, 4]
    torch.testing.assert_close(predictions[1]['scores'].sum(dim=1), torch.ones(4))


@pytest.mark.parametrize('stages', [(1, 5), ()])
def test_stages_that_timm_does_not_return_are_refused(stages):
    with pytest.raises(ValueError, match='at least one of the 5 stages'):
        build(stages=stages)
