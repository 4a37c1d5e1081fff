"""A2MIM pre-training of a ViT, 4 blocks 128 wide with patches of 4 pixels, on digits.

The token is inserted after the second block, where A2MIM and SimMIM differ; the published ViTs have
it after the patch embedding. The other starts of the study change it by options.
Run: python tools/train.py configs/study/digits/a2mim_vit-4x128_1xb64-cos-60e_digits-16px.py
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[77.8, 77.8, 77.8], std=[95.9, 95.9, 95.9]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=16,
        patch_size=4,
        embed_dim=128,
        depth=4,
        num_heads=4,
        class_token=False,
        mask_after='blocks.1',
        mask_token=dict(mode='add'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=60)
