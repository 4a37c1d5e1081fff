"""Stages that are not trained, and batch norm that keeps its statistics."""

import pytest
import torch

from a2mim.models.timm_backbone import TimmBackbone


def frozen(backbone: TimmBackbone) -> set[str]:
    names = {n for n, p in backbone.model.named_parameters() if not p.requires_grad}
    return {
        '.'.join(name.split('.')[: 1 + name.startswith(('blocks', 'stages'))]) for name in names
    }


@pytest.mark.parametrize(
    ('model_name', 'stages', 'expected'),
    [
        ('resnet18', -1, set()),
        ('resnet18', 0, {'conv1', 'bn1'}),
        ('resnet18', 2, {'conv1', 'bn1', 'layer1', 'layer2'}),
        ('test_convnext', 1, {'stem', 'stages.0'}),
        ('test_vit', 0, {'cls_token', 'pos_embed', 'patch_embed'}),
        ('test_vit', 2, {'cls_token', 'pos_embed', 'patch_embed', 'blocks.0', 'blocks.1'}),
    ],
)
def test_the_stem_and_the_stages_above_it_are_frozen(model_name, stages, expected):
    backbone = TimmBackbone(model_name, out_indices=(1, 2), frozen_stages=stages)
    assert frozen(backbone) == expected


def test_a_training_step_changes_nothing_of_what_is_frozen():
    backbone = TimmBackbone('resnet18', out_indices=(1, 4), frozen_stages=1).train()
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone(torch.randn(2, 3, 64, 64))[1].square().mean().backward()
    optimizer.step()
    changed = {
        key.split('.')[0]
        for key, value in backbone.model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == {'layer2', 'layer3', 'layer4'}


def test_frozen_blocks_drop_no_path():
    backbone = TimmBackbone('test_vit', frozen_stages=2, drop_path_rate=0.5).train()
    assert [block.training for block in backbone.model.blocks[:3]] == [False, False, True]
    assert not backbone.model.blocks[1].drop_path1.training


def test_norm_eval_keeps_all_statistics_and_trains_the_weights():
    backbone = TimmBackbone('resnet18', out_indices=(4,), norm_eval=True).train()
    mean = backbone.model.layer4[1].bn2.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    assert torch.equal(backbone.model.layer4[1].bn2.running_mean, mean)
    assert backbone.model.layer4[1].bn2.weight.grad is not None
    assert backbone.model.layer4[1].conv2.training


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(ValueError, match=r'frozen_stages=5 must be within -1 and 4, the stages of'):
        TimmBackbone('resnet18', out_indices=(1,), frozen_stages=5)
