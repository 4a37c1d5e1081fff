"""A2MIM pre-training of a ViT, 6 blocks 192 wide with patches of 4 pixels, on CIFAR-10 on a GPU.

The other starts of the study change it by options.
Run: python tools/train.py \
         configs/study/cifar10_gpu/a2mim_vit-6x192_1xb512-cos-40e_cifar10-folders.py \
         --data-root data/cifar10
"""

_base_ = ['../_base_/runtime.py', '../cifar10/_base_/mim.py']

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
        embed_dim=192,
        depth=6,
        num_heads=6,
        class_token=False,
        mask_after='blocks.2',
        mask_token=dict(mode='add'),
    ),
    neck=dict(type='PixelShuffleDecoder'),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
train_dataloader = dict(batch_size=512)
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
train_cfg = dict(max_epochs=40)
auto_scale_lr = dict(base_batch_size=512)
default_hooks = dict(checkpoint=dict(interval=1))
