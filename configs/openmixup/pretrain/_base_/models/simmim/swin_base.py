"""SimMIM with Swin-B at 192 pixels, window size 6: patch embeddings are replaced."""

model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='swin_base_patch4_window7_224',
        img_size=192,
        window_size=6,
        drop_path_rate=0.0,
        mask_after='patch_embed',
        mask_token=dict(mode='replace'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
