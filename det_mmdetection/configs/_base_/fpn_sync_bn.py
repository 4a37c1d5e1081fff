"""Mask R-CNN on the feature pyramid of a ResNet-50, with norms in pyramid, box and mask head.

Nothing is frozen, and every norm is trained, its statistics from the images of all GPUs.
"""

fpn_model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    neck=dict(norm_cfg=dict(type='SyncBN', requires_grad=True)),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
        mask_head=dict(norm_cfg=dict(type='SyncBN', requires_grad=True)),
    ),
)
