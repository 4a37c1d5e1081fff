"""ResNet-18 on CIFAR-100 at 32 pixels from scratch, 200 epochs on one GPU.

Deviation: the published stem is a 3×3 convolution with stride 1, which no ResNet of timm has. This
config has the ImageNet stem and keeps the resolution after the second stage by dilation, so that
the last stage has 4×4 positions, as published, but the earlier stages have fewer.
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
