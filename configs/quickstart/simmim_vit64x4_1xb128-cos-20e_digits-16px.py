"""SimMIM pre-training of a ViT, 64 wide and 4 deep, on digits: seconds on a CPU.

Run: python tools/train.py configs/quickstart/simmim_vit64x4_1xb128-cos-20e_digits-16px.py
"""

_base_ = ['_base_/runtime.py', '_base_/digits_mim.py']

model = dict(
    type='SimMIM',
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
        mask_token=dict(mode='replace'),
    ),
    head=dict(type='MIMHead', spatial=dict(type='L1Loss')),
)
