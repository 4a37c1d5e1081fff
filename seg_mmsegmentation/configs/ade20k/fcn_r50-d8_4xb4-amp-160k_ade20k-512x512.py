"""FCN with ResNet-50 at stride 8 on ADE20K, 160k iterations, 4 GPUs with 4 images each.

Reported for A2MIM with ResNet-50 on ADE20K: 38.3 mIoU; the source does not say with which head.

Deviations from the published config: the backbone has the plain stem, for which there are
pre-trained weights. The published backbone, ResNetV1c, has another stem, which keeps its random
initialisation. Mixed precision uses bfloat16 where the GPU supports it.

Run: bash seg_mmsegmentation/mim_dist_train.sh \
         seg_mmsegmentation/configs/ade20k/fcn_r50-d8_4xb4-amp-160k_ade20k-512x512.py PRETRAIN 4
"""

_base_ = ['mmseg::fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py']

custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        type='ResNet',
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='a2mim.AmpOptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=160000, by_epoch=False)
]
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(
    checkpoint=dict(type='a2mim.CheckpointHook', interval=16000, max_keep_ckpts=1, save_best='mIoU')
)
