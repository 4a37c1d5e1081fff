"""A2MIM with ConvNeXt-B: masked after its last downsampling, no spectral loss."""

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='convnext_base',
        mask_after='stages.3.downsample',
        # The published token of ConvNeXt is initialised with 0.
        mask_token=dict(mode='add', gamma_init=1e-6, init='zero'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='FocalL1Loss', alpha=0.2, gamma=1.0)),
)
