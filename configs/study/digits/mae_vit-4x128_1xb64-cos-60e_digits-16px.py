"""MAE pre-training of the ViT, 4 blocks 128 wide with patches of 4 pixels, on digits.

Network, images, crops, batches and steps are those of A2MIM's config; 12 of the 16 patches are
masked, as published for MAE. Of the rates 1e-3 and 3e-3 the first was better on validation images.
Run: python tools/train.py configs/study/digits/mae_vit-4x128_1xb64-cos-60e_digits-16px.py
"""

_base_ = ['../_base_/runtime.py', '_base_/mim.py']

train_dataloader = dict(dataset=dict(mask=dict(ratio=0.75)))
model = dict(
    type='MAE',
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
    ),
    neck=dict(type='MAEDecoder', width=64, depth=2, num_heads=2),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=60)
