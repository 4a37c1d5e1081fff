"""Mask R-CNN with ConvNeXt-T and FPN on COCO, 36 epochs, 8 GPUs with 2 images each.

No result was published for A2MIM with this model. All values are those of MMDetection's config for
ConvNeXt-T, which follow Liu et al., A ConvNet for the 2020s, CVPR 2022
(https://arxiv.org/abs/2201.03545).

Deviations from it: the backbone is timm's, without additional norms on its feature maps; mixed
precision uses bfloat16 where the GPU supports it.
Run: bash det_mmdetection/mim_dist_train.sh \
         det_mmdetection/configs/coco/mask-rcnn_convnext-t_fpn_amp-ms-crop-3x_coco.py PRETRAIN 8
"""

_base_ = ['mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='convnext_tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    type='a2mim.AmpOptimWrapper',
    constructor='a2mim.ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay=0.95,
        # The layers of that config: in stage 2, three consecutive blocks count as one.
        layers=[
            r'stem',
            r'stages\.0',
            r'stages\.1',
            r'stages\.2\.(?:downsample|blocks\.[0-2]\.)',
            r'stages\.2\.blocks\.[3-5]\.',
            r'stages\.2\.blocks\.[6-8]\.',
            r'stages\.3',
        ],
        rules={
            'norm': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
            r'stem\.1\.': dict(weight_decay=0.0),  # norms with other names
            r'downsample\.0\.': dict(weight_decay=0.0),
        },
    ),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', max_keep_ckpts=1, save_best='coco/bbox_mAP')
)
