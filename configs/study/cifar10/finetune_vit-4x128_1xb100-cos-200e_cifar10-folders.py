"""Fine-tuning of a ViT of 4 blocks with 50 labels per class of CIFAR-10.

Run: python tools/train.py \
         configs/study/cifar10/finetune_vit-4x128_1xb100-cos-200e_cifar10-folders.py \
         --data-root data/cifar10 --pretrained CKPT
"""

_base_ = ['../_base_/runtime.py', '_base_/few_labels.py']

model = dict(
    type='ImageClassifier',
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
        global_pool='avg',
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=5))
