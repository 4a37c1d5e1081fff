"""Linear probe of ResNet-50 on STL-10, 100 epochs.

Deviation: the frozen backbone keeps its batch statistics. The published config updates them during
training, which changes the probed features.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/stl10/r50_linear_sz96_4xb64_step_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/stl10_sz96.py',
    '../_base_/models/r50.py',
    '../_base_/schedules/sgd_linear_step.py',
]

model = dict(backbone=dict(num_classes=10), frozen_trunk=True)
optim_wrapper = dict(optimizer=dict(lr=1.0))
