"""Linear probe of ResNet-50 on ImageNet-100, 100 epochs.

Deviation: the frozen backbone keeps its batch statistics. The published config updates them during
training, which changes the probed features.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet100/r50_linear_sz224_4xb64_step_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_sz224.py',
    '../_base_/models/r50.py',
    '../_base_/schedules/sgd_linear_step.py',
]

model = dict(backbone=dict(num_classes=100), frozen_trunk=True)
