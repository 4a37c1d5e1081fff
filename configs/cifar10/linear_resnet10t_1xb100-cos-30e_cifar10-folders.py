"""Linear probe of ResNet-10-T with 200 labels per class of CIFAR-10, 30 epochs: minutes on a CPU.

The backbone is frozen, so that the accuracy measures the pre-trained features.
Run: python tools/train.py \
         configs/cifar10/linear_resnet10t_1xb100-cos-30e_cifar10-folders.py \
         --data-root data/cifar10 --pretrained CKPT
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/cifar10_folders_few_labels.py',
]

model = dict(frozen_trunk=True, loss=dict(label_smoothing=0.0))
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.0, fused=True),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=0, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=30)
auto_scale_lr = dict(base_batch_size=100, enable=False)
