"""Fine-tuning of a ViT, 4 blocks 128 wide with patches of 4 pixels, with 5 labels per digit.

Run: python tools/train.py \
         configs/study/digits/finetune_vit-4x128_1xb50-cos-400e_digits-16px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['../_base_/runtime.py', '_base_/few_labels.py']

model = dict(
    type='ImageClassifier',
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
        global_pool='avg',
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=200))
