"""Fine-tuning of a ResNet-10, 32 to 256 channels, with 5 labels per digit.

Run: python tools/train.py \
         configs/study/digits/finetune_resnet10-narrow_1xb50-cos-400e_digits-16px.py \
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
        model_name='resnet18',
        layers=(1, 1, 1, 1),
        channels=(32, 64, 128, 256),
        output_stride=8,
        zero_init_last=False,  # these few steps do not open a branch that starts at zero
        num_classes=10,
    ),
    loss=dict(type='CrossEntropyLoss'),
)
default_hooks = dict(checkpoint=dict(interval=200))
