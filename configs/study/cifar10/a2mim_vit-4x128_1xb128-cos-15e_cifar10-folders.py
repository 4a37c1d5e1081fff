"""A2MIM pre-training of a ViT, 4 blocks 128 wide with patches of 4 pixels, on CIFAR-10.

The other starts of the study change it by options.
Run: python tools/train.py \
         configs/study/cifar10/a2mim_vit-4x128_1xb128-cos-15e_cifar10-folders.py \
         --data-root data/cifar10
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

model = dict(
    type='A2MIM',
    data_preprocessor=dict(
        type='ImagePreprocessor', mean=[125.3, 123.0, 113.9], std=[51.6, 50.8, 51.3]
    ),
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=32,
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
default_hooks = dict(checkpoint=dict(interval=1))
