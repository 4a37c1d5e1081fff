"""Mask R-CNN with ResNet-50 and FPN, with norms in the FPN, the box head and the mask head.

Nothing is frozen, and every norm is trained, with statistics synchronised across all GPUs.
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
