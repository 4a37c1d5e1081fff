"""A2MIM pre-training of ResNet-10-T on CIFAR-10 as image files, 5 epochs: half an hour on a CPU.

39 of 64 patches of 4 pixels are masked, where features are 8×8. The loss is plain L1, since the
focal L1 loss learns more slowly in so few steps. Evaluate the features with
``tools/analysis_tools/evaluate_features.py`` and with the linear probe in this folder.
Run: python tools/train.py \
         configs/cifar10/a2mim_resnet10t_1xb128-cos-5e_cifar10-folders.py \
         --data-root data/cifar10
"""

_base_ = ['../openmixup/pretrain/_base_/default_runtime.py', '_base_/cifar10_mim.py']

train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    dataset=dict(source=dict(_delete_=True, type='ImageFolder', root='data/cifar10/train')),
)
model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet10t',
        output_stride=8,  # 4×4 features; weights compatible with every other ResNet-10-T
        zero_init_last=False,  # 1,950 steps do not open branches that start at zero
        mask_after='layer1',
        mask_token=dict(mode='add', gamma_init=1e-6),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
        visible_fill='mixed',
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules={
            'bn[0-9]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'mask_token': dict(weight_decay=0.0, lr_mult=0.1),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=1, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=5)
auto_scale_lr = dict(base_batch_size=128, enable=False)
default_hooks = dict(checkpoint=dict(interval=1), reconstruction=dict(interval=5))
# Evaluates the features with 100 labels per class; images of ``val`` are only classified.
custom_hooks = [
    dict(
        type='FeatureProbeHook',
        interval=1,
        linear=True,
        train=dict(
            type='ImageDataset',
            source=dict(
                type='ImageFolder',
                root='data/cifar10/train',
                with_labels=True,
                labels_per_class=100,
            ),
            pipeline=[],
        ),
        test=dict(
            type='ImageDataset',
            source=dict(
                type='ImageFolder',
                root='data/cifar10/val',
                with_labels=True,
                labels_per_class=100,
            ),
            pipeline=[],
        ),
    )
]
