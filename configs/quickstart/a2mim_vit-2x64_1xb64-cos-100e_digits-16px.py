"""A2MIM pre-training of a ViT, 2 blocks 64 wide with patches of 4 pixels, on digits: half a minute.

After about 1,000 steps attention finds the neighbours of a masked patch, and the loss falls.
The token is where the published ViTs have it.
Run: python tools/train.py configs/quickstart/a2mim_vit-2x64_1xb64-cos-100e_digits-16px.py
"""

_base_ = ['../study/digits/a2mim_vit-4x128_1xb64-cos-60e_digits-16px.py']

model = dict(backbone=dict(embed_dim=64, depth=2, num_heads=2, mask_after='patch_embed'))
train_cfg = dict(max_epochs=100)
