"""PRETRAIN in a config: every part that takes weights of a trunk, and no other."""

import pytest
from mmengine import Config

from a2mim.transfer.launch import check_shared_head, set_pretrain

BACKBONE = dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN')


def detector(**shared_head: object) -> Config:
    return Config(
        dict(
            model=dict(
                backbone=dict(type='ResNet', init_cfg=dict(BACKBONE)),
                neck=[dict(type='FPN', init_cfg=dict(type='Xavier'))],
                roi_head=dict(shared_head=shared_head) if shared_head else dict(),
            )
        )
    )


def test_every_part_that_takes_weights_takes_them_from_the_file():
    cfg = detector(type='ResLayer', init_cfg=dict(BACKBONE, part='layer4'))
    set_pretrain(cfg, 'trunk.pth')
    assert cfg.model.backbone.init_cfg == dict(BACKBONE, checkpoint='trunk.pth')
    head = cfg.model.roi_head.shared_head
    assert head.init_cfg == dict(BACKBONE, checkpoint='trunk.pth', part='layer4')
    assert cfg.model.neck[0].init_cfg == dict(type='Xavier')


def test_none_trains_every_part_from_scratch():
    cfg = detector(type='ResLayer', init_cfg=dict(BACKBONE, part='layer4'))
    set_pretrain(cfg, 'none')
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.roi_head.shared_head.init_cfg is None
    assert cfg.model.neck[0].init_cfg == dict(type='Xavier')


def test_a_model_that_takes_no_weights_is_refused():
    cfg = Config(dict(model=dict(backbone=dict(type='ResNet', init_cfg=None))))
    with pytest.raises(ValueError, match=r'takes weights from PRETRAIN=trunk.pth: give its'):
        set_pretrain(cfg, 'trunk.pth')


def test_a_shared_head_that_takes_weights_passes():
    check_shared_head(detector(type='ResLayer', init_cfg=dict(BACKBONE, part='layer4')))


@pytest.mark.parametrize('head', [{}, dict(type='ResLayer', init_cfg=None)])
def test_a_detector_without_such_a_head_is_no_c4_detector(head):
    with pytest.raises(ValueError, match=r'no model.roi_head.shared_head that takes weights'):
        check_shared_head(detector(**head))
