"""Mask R-CNN C4: a ResNet-50 up to stage 3; stage 4 and a norm after it are the shared RoI head.

Weights in PyTorch style: RGB images, the stride in the 3x3 convolution. Nothing is frozen, and
every norm is trained, with statistics synchronised across all GPUs.
"""

c4_model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    roi_head=dict(
        shared_head=dict(
            type='ResLayerExtraNorm',
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            norm_eval=False,
            style='pytorch',
            init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN', part='layer4'),
        )
    ),
)
