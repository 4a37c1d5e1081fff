"""A backbone that another OpenMMLab package builds returns what its models take: a tuple."""

import copy

import pytest
import torch
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope, Registry

import a2mim.models  # noqa: F401
from a2mim.models.timm_backbone import TimmBackbone

THEIRS = Registry('model', parent=ROOT, scope='mmpretrain_like')
BACKBONE = dict(type='a2mim.TimmBackbone', model_name='test_resnet')
IMAGE = torch.randn(2, 3, 64, 64)
PREPROCESSOR = dict(type='a2mim.ImagePreprocessor', mean=[0.0] * 3, std=[1.0] * 3)


@THEIRS.register_module()
class TheirClassifier(torch.nn.Module):
    """Takes the last of several maps, as classifiers of OpenMMLab do."""

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone = THEIRS.build(backbone)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.backbone(image)[-1].mean((2, 3))


@pytest.mark.parametrize('options', [{}, dict(out_indices=(4,)), dict(mask_after='layer3')])
def test_a_classifier_of_another_package_gets_one_vector_for_every_image(options):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain_like'):
        model = THEIRS.build(dict(type='TheirClassifier', backbone=BACKBONE | options)).eval()
    ours = TimmBackbone('test_resnet').eval()
    ours.model.load_state_dict(model.backbone.model.state_dict())
    for theirs in (model, copy.deepcopy(model)):
        pooled = theirs(IMAGE)
        assert pooled.shape == (2, ours.out_channels)
        torch.testing.assert_close(pooled, ours(IMAGE).mean((2, 3)))


@pytest.mark.parametrize('scope', ['mmpretrain_like', 'mmdet', 'mmengine', 'a2mim'])
def test_our_algorithms_get_a_map_wherever_they_are_built(scope):
    config = dict(
        type='a2mim.ImageClassifier',
        data_preprocessor=PREPROCESSOR,
        backbone=BACKBONE | dict(num_classes=5),
        loss=dict(type='a2mim.CrossEntropyLoss'),
    )
    pretraining = dict(
        type='a2mim.SimMIM',
        data_preprocessor=PREPROCESSOR,
        backbone=BACKBONE | dict(mask_after='layer3', mask_token=dict(mode='replace')),
        neck=dict(type='a2mim.PixelShuffleDecoder'),
        head=dict(type='a2mim.MIMHead', spatial=dict(type='a2mim.L1Loss')),
    )
    with DefaultScope.overwrite_default_scope(scope):
        classifier, simmim = ROOT.build(config).eval(), ROOT.build(pretraining).eval()
    assert classifier.backbone(IMAGE).shape == (2, 5)
    assert simmim.backbone(IMAGE).ndim == 4


@pytest.mark.parametrize('scope, kind', [('mmengine', torch.Tensor), ('mmseg', tuple)])
def test_the_scope_in_which_it_is_built_decides(scope, kind):
    with DefaultScope.overwrite_default_scope(scope):
        backbone = TimmBackbone('test_resnet').eval()
    with DefaultScope.overwrite_default_scope('a2mim'):
        assert isinstance(backbone(IMAGE), kind)
