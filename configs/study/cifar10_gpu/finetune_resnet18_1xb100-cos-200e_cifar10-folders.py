"""Fine-tuning of ResNet-18 at output stride 8 with 50 labels per class of CIFAR-10 on a GPU.

Run: python tools/train.py \
         configs/study/cifar10_gpu/finetune_resnet18_1xb100-cos-200e_cifar10-folders.py \
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
        model_name='resnet18',
        output_stride=8,
        zero_init_last=False,
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=5))
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
