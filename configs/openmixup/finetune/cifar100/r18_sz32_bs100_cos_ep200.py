"""ResNet-18 on CIFAR-100 at 32 pixels from scratch, 200 epochs on one GPU.

Deviation: timm has no ResNet whose stem is a 3×3 convolution without a stride, as the published one
is. This one has the stem for large images and keeps the resolution behind the second stage by
dilation, so that the last stage sees 4×4 positions as there, but the first ones fewer.
Run: python tools/train.py \
         configs/openmixup/finetune/cifar100/r18_sz32_bs100_cos_ep200.py
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/cifar100_sz32.py',
    '../_base_/models/r18_cifar.py',
    '../_base_/schedules/sgd_cifar.py',
]

model = dict(backbone=dict(num_classes=100))
