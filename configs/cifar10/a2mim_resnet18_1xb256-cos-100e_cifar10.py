"""A2MIM pre-training of ResNet-18 on CIFAR-10 at its own 32 pixels, 100 epochs on one GPU.

The ImageNet config at a small scale: 8×8 mask patches, the mask token where features are 8×8. No
result was published for it; evaluate it with the linear probe and the fine-tuning in this folder.
Run: python tools/train.py configs/cifar10/a2mim_resnet18_1xb256-cos-100e_cifar10.py
"""

_base_ = ['../openmixup/pretrain/_base_/default_runtime.py', '_base_/cifar10_mim.py']

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet18',
        output_stride=8,  # 4×4 features; weights compatible with every other ResNet-18
        mask_after='layer1',
        mask_token=dict(mode='add', gamma_init=1e-6),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='FocalL1Loss', alpha=0.2, gamma=1.0),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.5),
        visible_leak=1e-3,
        visible_fill='mixed',
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules={
            '(bn[0-9]|downsample[.]1)[.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'mask_token': dict(weight_decay=0.0, lr_mult=0.1),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=5, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=100)
auto_scale_lr = dict(base_batch_size=256, enable=False)
