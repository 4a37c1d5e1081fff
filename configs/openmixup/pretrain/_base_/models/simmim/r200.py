"""SimMIM with ResNet-200: features after the stem are replaced, the image is not filled."""

model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='resnet200',
        mask_after='maxpool',
        mask_token=dict(mode='replace'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
sync_bn = 'torch'
