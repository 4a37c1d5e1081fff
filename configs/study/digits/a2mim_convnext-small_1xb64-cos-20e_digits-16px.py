"""A2MIM pre-training of a small ConvNeXt with 32 to 256 channels on digits.

The token is inserted before the third stage, the last one with a feature per mask patch.
The other starts of the study change it by options.
Run: python tools/train.py configs/study/digits/a2mim_convnext-small_1xb64-cos-20e_digits-16px.py
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[77.8, 77.8, 77.8], std=[95.9, 95.9, 95.9]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='convnext_atto',
        depths=(1, 1, 2, 1),
        dims=(32, 64, 128, 256),
        patch_size=1,
        mask_after='stages.2.downsample',
        mask_token=dict(mode='add', gamma_init=1e-6),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=20)
