"""The page about torchvision's detectors: its script trains with a backbone of ours."""

import re
from pathlib import Path

import pytest
import timm
import torch

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / 'docs' / 'torchvision_detection.md'
BLOCKS = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.M | re.S)


@pytest.fixture(scope='module')
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('page') / 'trunk.pth'
    torch.save(timm.create_model('resnet50', num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope='module')
def page(trunk: Path) -> dict:
    """Variables of the script after it ran."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trunk.parent)
        exec(compile(BLOCKS[0], PAGE.name, 'exec'), names)
    return names


def test_the_page_has_one_script():
    assert len(BLOCKS) == 1


def test_the_loss_of_mask_rcnn_falls(page):
    curve = page['curve']
    assert curve.isfinite().all()
    assert curve[-3:].mean() < 0.7 * curve[:3].mean()


def test_all_losses_of_boxes_and_masks_are_trained(page):
    assert page['losses'].keys() == {
        'loss_classifier',
        'loss_box_reg',
        'loss_mask',
        'loss_objectness',
        'loss_rpn_box_reg',
    }


def test_every_parameter_of_the_backbone_changes_in_training(page, trunk):
    start = torch.load(trunk, weights_only=True)
    for name, parameter in page['backbone'].body.named_parameters():
        assert not torch.equal(parameter, start[name]), name


def test_the_trained_detector_predicts_boxes_and_masks(page):
    images, _ = page['images'], page['targets']
    with torch.no_grad():
        (answer, _) = page['detector'].eval()(list(images))
    count = len(answer['boxes'])
    assert answer['boxes'].shape == (count, 4)
    assert answer['masks'].shape == (count, 1, 128, 128)
