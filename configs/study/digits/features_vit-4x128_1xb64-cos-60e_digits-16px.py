"""Pre-training of the ViT, 4 blocks 128 wide with patches of 4 pixels, by feature targets on
digits.

The teacher is an average of the network over 100 steps; its last two blocks are the target, as
Data2Vec takes half of them. Of the rates 1e-3 and 3e-3 the first was better on validation images.
The rest is A2MIM's config.
Run: python tools/train.py \
         configs/study/digits/features_vit-4x128_1xb64-cos-60e_digits-16px.py
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

model = dict(
    type='FeatureMIM',
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
    head=dict(type='MIMHead', spatial=dict(type='HuberLoss', beta=2.0)),
    teacher='ema',
    decay=0.99,
    layers=2,
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=60)
