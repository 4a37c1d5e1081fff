"""Fine-tuning of a ViT of 6 blocks with 50 labels per class of CIFAR-10 on a GPU.

Run: python tools/train.py \
         configs/study/cifar10_gpu/finetune_vit-6x192_1xb100-cos-200e_cifar10-folders.py \
         --data-root data/cifar10 --pretrained CKPT
"""

_base_ = ['../_base_/runtime.py', '../cifar10/_base_/few_labels.py']

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
        embed_dim=192,
        depth=6,
        num_heads=6,
        class_token=False,
        global_pool='avg',
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=5))
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
