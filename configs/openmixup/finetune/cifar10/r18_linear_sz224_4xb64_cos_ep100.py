"""Linear probe of ResNet-18 on CIFAR-10 enlarged to 224 pixels, 100 epochs.

Deviation: the frozen backbone keeps its batch statistics. The published config updates them during
training, which changes the probed features.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/cifar10/r18_linear_sz224_4xb64_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/cifar10_sz224.py',
    '../_base_/models/r18.py',
    '../_base_/schedules/sgd_linear_cos.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
    ),
    backbone=dict(num_classes=10),
    frozen_trunk=True,
)
