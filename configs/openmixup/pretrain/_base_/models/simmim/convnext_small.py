"""SimMIM with ConvNeXt-S: features after the stem are replaced, the image is not filled."""

model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='convnext_small',
        mask_after='stem',
        # The published token of ConvNeXt is initialised with 0.
        mask_token=dict(mode='replace', init='zero'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
