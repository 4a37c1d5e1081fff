"""A2MIM pre-training of a ViT, 64 wide and 4 deep, on digits: seconds on a CPU.

Run: python tools/train.py configs/quickstart/a2mim_vit64x4_1xb128-cos-20e_digits-16px.py
"""

_base_ = ['_base_/runtime.py', '_base_/digits_mim.py']

model = dict(
    type='A2MIM',
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=16,
        patch_size=4,
        embed_dim=64,
        depth=4,
        num_heads=2,
        class_token=False,
        mask_after='patch_embed',
    ),
    head=dict(
        type='MIMHead',
        spatial=dict(type='L1Loss'),
        spectral=dict(type='FocalFrequencyLoss', loss_weight=0.1),
    ),
)
