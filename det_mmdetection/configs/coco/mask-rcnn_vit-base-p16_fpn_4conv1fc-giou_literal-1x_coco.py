"""Mask R-CNN with ViT-B and FPN on COCO: the published config with its inconsistencies.

The backbone has no position embeddings: those of PRETRAIN are ignored. Its four feature maps have
stride 16 and enter the FPN unchanged, while anchors and RoIs assume strides 4, 8, 16 and 32. There
is no layer-wise learning rate decay, and every parameter has weight decay: the published exceptions
name no remaining parameter of the backbone.

Deviation: the backbone is timm's, with the norm of the last block as PRETRAIN has it.
Run: bash det_mmdetection/mim_dist_train.sh \
         det_mmdetection/configs/coco/mask-rcnn_vit-base-p16_fpn_4conv1fc-giou_literal-1x_coco.py \
         PRETRAIN 8
"""

_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    '../_base_/multi_scale_crop.py',
    '../_base_/boxes_4conv1fc_giou.py',
]

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='beit_base_patch16_224',
        out_indices=(3, 5, 7, 11),
        use_abs_pos_emb=False,
        use_rel_pos_bias=False,
        init_values=0.1,
        drop_path_rate=0.2,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
    roi_head=dict(bbox_head=_base_.bbox_head),
)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.multi_scale_crop_pipeline))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[9, 11], gamma=0.1),
]
train_cfg = dict(max_epochs=12)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', max_keep_ckpts=1, save_best='coco/bbox_mAP')
)
