"""Mask R-CNN with ResNet-50 and FPN on COCO, 12 epochs, 8 GPUs with 2 images each.

Deviation: training images have several sizes. The published config intends this too, but its
pipeline has a name that its version of MMDetection does not read.

Run: bash det_mmdetection/mim_dist_train.sh \
         det_mmdetection/configs/coco/mask-rcnn_r50_fpn_ms-1x_coco.py PRETRAIN 8
"""

_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    '../_base_/fpn_sync_bn.py',
    '../_base_/multi_scale.py',
]

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = _base_.fpn_model
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.multi_scale_pipeline))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(max_epochs=12)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', max_keep_ckpts=1, save_best='coco/bbox_mAP')
)
