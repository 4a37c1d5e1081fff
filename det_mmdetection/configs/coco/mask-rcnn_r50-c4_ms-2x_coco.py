"""Mask R-CNN with ResNet-50 C4 on COCO, 24 epochs, 8 GPUs with 2 images each.

Reported for A2MIM with ResNet-50 and a 2x schedule: 39.8 box AP and 34.9 mask AP; the source does
not say whether with C4 or with FPN.

Deviation: training images have several sizes, and masks. The published config intends the sizes
too, but its pipeline has a name that its version of MMDetection does not read, and collects no
masks.

Run: bash det_mmdetection/mim_dist_train_c4.sh \
         det_mmdetection/configs/coco/mask-rcnn_r50-c4_ms-2x_coco.py PRETRAIN 8
"""

_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
    '../_base_/c4_extra_norm.py',
    '../_base_/multi_scale.py',
]

custom_imports = dict(
    imports=['a2mim.transfer', 'det_mmdetection.res_layer_extra_norm'],
    allow_failed_imports=False,
)
model = _base_.c4_model
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.multi_scale_pipeline))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 23], gamma=0.1),
]
train_cfg = dict(max_epochs=24)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', max_keep_ckpts=1, save_best='coco/bbox_mAP')
)
