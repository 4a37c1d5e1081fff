"""One file of weights in the ResNets of timm, MMDetection and MMSegmentation: the same features."""

import importlib
from pathlib import Path

import pytest
import timm
import torch
from mmengine import Config

import a2mim.transfer  # noqa: F401  (operators, before MMDetection asks for them)
from a2mim.models.timm_backbone import TimmBackbone

# What the packages say about themselves when they are imported is not for us.
pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('ignore')]
PACKAGES = ['mmdet', 'mmseg']


@pytest.fixture(scope='module')
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 with statistics of batch norm that are not those of a new one."""
    torch.manual_seed(0)
    model = timm.create_model('resnet50', num_classes=0, global_pool='').train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp('trunk') / 'resnet50.pth'
    torch.save(model.state_dict(), path)
    return path


def resnet(package: str, **options: object) -> torch.nn.Module:
    registry = importlib.import_module(f'{package}.registry').MODELS
    importlib.import_module(f'{package}.models')
    torch.manual_seed(1)
    return registry.build(dict(type=f'{package}.ResNet', depth=50, style='pytorch', **options))


@pytest.mark.parametrize('package', PACKAGES)
def test_their_resnet_computes_the_features_of_timm(package, trunk):
    init_cfg = dict(type='a2mim.TrunkPretrained', checkpoint=str(trunk))
    theirs = resnet(package, norm_eval=False, init_cfg=init_cfg)
    theirs.init_weights()
    ours = TimmBackbone('resnet50', out_indices=(1, 2, 3, 4), init_cfg=init_cfg)
    ours.init_weights()
    image = torch.randn(2, 3, 75, 110)
    for model in (theirs, ours):
        model.eval()
    with torch.no_grad():
        for features, reference in zip(theirs(image), ours(image), strict=True):
            torch.testing.assert_close(features, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('package', PACKAGES)
def test_the_deep_stem_that_no_trunk_of_ours_has_is_refused(package, trunk):
    init_cfg = dict(type='a2mim.TrunkPretrained', checkpoint=str(trunk))
    theirs = resnet(package, deep_stem=True, init_cfg=init_cfg)
    with pytest.raises(ValueError, match=r'not in the file \(stem\.0\.weight'):
        theirs.init_weights()


def test_three_stages_take_three_and_leave_the_fourth(trunk):
    options = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    init_cfg = dict(type='a2mim.TrunkPretrained', checkpoint=str(trunk))
    theirs = resnet('mmdet', **options, init_cfg=init_cfg)
    theirs.init_weights()
    saved = torch.load(trunk, weights_only=True)
    assert all(torch.equal(value, saved[key]) for key, value in theirs.state_dict().items())


def test_a_detector_of_theirs_builds_our_backbone_and_pyramid(trunk):
    registry = importlib.import_module('mmdet.registry').MODELS
    backbone = registry.build(dict(type='a2mim.TimmBackbone', model_name='test_vit'))
    assert isinstance(backbone, TimmBackbone)
    neck = registry.build(dict(type='a2mim.RescalePyramid', embed_dim=4))
    shapes = [tuple(item.shape[2:]) for item in neck([torch.zeros(1, 4, 6, 8)] * 4)]
    assert shapes == [(24, 32), (12, 16), (6, 8), (3, 4)]


@pytest.mark.parametrize(
    'base', ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmseg::_base_/models/upernet_r50.py']
)
def test_a_config_inherits_from_either_package(base, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = [{base!r}]\n', encoding='utf-8')
    assert 'ResNet' in Config.fromfile(path).model.backbone.type
