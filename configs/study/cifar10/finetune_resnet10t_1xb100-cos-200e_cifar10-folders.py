"""Fine-tuning of ResNet-10-T at output stride 8 with 50 labels per class of CIFAR-10.

Run: python tools/train.py \
         configs/study/cifar10/finetune_resnet10t_1xb100-cos-200e_cifar10-folders.py \
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
        model_name='resnet10t',
        output_stride=8,
        zero_init_last=False,
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=5))
