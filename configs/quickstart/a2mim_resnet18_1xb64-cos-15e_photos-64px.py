"""A2MIM pre-training of ResNet-18 on patches of photographs: two minutes on two CPU cores.

The ImageNet config at a small scale: 10 of 16 mask patches of 16 pixels are masked, the mask token
is inserted where features are 4×4, and the loss is plain L1, which trained better here than focal
L1.
Run: python tools/train.py configs/quickstart/a2mim_resnet18_1xb64-cos-15e_photos-64px.py
"""

_base_ = ['_base_/runtime.py']

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='MaskedImageDataset',
        source=dict(type='PhotoPatches', split='train'),
        pipeline=[
            dict(type='RandomResizedCrop', size=64, scale=(0.3, 1.0)),
            dict(type='RandomFlip'),
        ],
        mask=dict(type='BlockMask', image_size=64, block_size=16, ratio=0.6),
    ),
)
model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='TimmBackbone', model_name='resnet18', mask_after='layer3'),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            '(bn[0-9]|downsample[.]1)[.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'mask_token': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=2, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=15)
auto_scale_lr = dict(base_batch_size=64, enable=False)
default_hooks = dict(reconstruction=dict(type='ReconstructionHook', interval=5))
# Evaluates the features with the 70 labelled patches of fine-tuning.
custom_hooks = [
    dict(
        type='FeatureProbeHook',
        interval=5,
        neighbours=5,
        linear=True,
        train=dict(
            type='ImageDataset',
            source=dict(type='PhotoPatches', split='train', labels_per_class=5),
            pipeline=[dict(type='Resize', size=64, interpolation='bilinear')],
        ),
        test=dict(
            type='ImageDataset',
            source=dict(type='PhotoPatches', split='val', stride=16),
            pipeline=[dict(type='Resize', size=64, interpolation='bilinear')],
        ),
    )
]
