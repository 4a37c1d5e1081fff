"""Fine-tuning of a ViT, 64 wide and 4 deep, with two labelled digits of each class.

Run: python tools/train.py configs/quickstart/finetune_vit64x4_1xb20-cos-300e_digits-16px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['_base_/runtime.py', '_base_/digits_few_labels.py']

model = dict(
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=16,
        patch_size=4,
        embed_dim=64,
        depth=4,
        num_heads=2,
        class_token=False,
        global_pool='avg',
        num_classes=10,
    ),
)
