"""Fine-tuning of a ViT, 2 blocks 64 wide with patches of 4 pixels, with 5 labels per digit.

Run: python tools/train.py configs/quickstart/finetune_vit-2x64_1xb50-cos-400e_digits-16px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['../study/digits/finetune_vit-4x128_1xb50-cos-400e_digits-16px.py']

model = dict(backbone=dict(embed_dim=64, depth=2, num_heads=2))
