"""Linear probe of ResNet-18 on CIFAR-100 enlarged to 224 pixels, 100 epochs.

Deviation: the frozen backbone keeps its batch statistics. The published config updates them during
training, which changes the probed features.
Deviation: the learning rate is 1.0. The published config contains an unresolved merge conflict
between 1.0 and 0.1.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/cifar100/r18_linear_sz224_4xb64_step_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/cifar100_sz224.py',
    '../_base_/models/r18.py',
    '../_base_/schedules/sgd_linear_step.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
    ),
    backbone=dict(num_classes=100),
    frozen_trunk=True,
)
optim_wrapper = dict(optimizer=dict(lr=1.0))
