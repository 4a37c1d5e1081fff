"""A2MIM with ResNet-50, masked where features are 14×14 for 224 pixels; ImageNet's mean and std."""

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet50',
        in_chans=3,
        mask_after='layer3',
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
