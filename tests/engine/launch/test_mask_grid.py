"""Mask and trunk are compared before training."""

from types import SimpleNamespace

import pytest
from torch import nn

from a2mim.datasets import PatchMask
from a2mim.engine.config_check import check_mask_grid
from a2mim.models.timm_backbone import TimmBackbone


def runner(backbone: nn.Module | None, **dataset: object) -> SimpleNamespace:
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=SimpleNamespace(**dataset)))
    return SimpleNamespace(model=SimpleNamespace(backbone=backbone), train_loop=loop)


@pytest.fixture(scope='module')
def backbone() -> TimmBackbone:
    return TimmBackbone('test_convnext', mask_after='stages.2')  # stride 16


def test_blocks_that_do_not_fit_the_features_are_refused(backbone):
    with pytest.raises(ValueError, match=r'8×8 blocks does not fit.*block sizes that fit'):
        check_mask_grid(runner(backbone, mask=PatchMask(image_size=64, block_size=8)))


def test_blocks_that_fit_pass(backbone):
    check_mask_grid(runner(backbone, mask=PatchMask(image_size=64, block_size=32)))


def test_data_without_a_mask_and_models_without_a_trunk_pass(backbone):
    check_mask_grid(runner(backbone))
    check_mask_grid(runner(None, mask=PatchMask(image_size=64, block_size=8)))
