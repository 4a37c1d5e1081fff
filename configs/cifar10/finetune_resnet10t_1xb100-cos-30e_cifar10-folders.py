"""Fine-tuning of ResNet-10-T with 200 labels per class of CIFAR-10, 30 epochs: minutes on a CPU.

Compare with the same command without ``--pretrained``, which trains from scratch.
Run: python tools/train.py \
         configs/cifar10/finetune_resnet10t_1xb100-cos-30e_cifar10-folders.py \
         --data-root data/cifar10 --pretrained CKPT
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/cifar10_folders_few_labels.py',
]

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(rules={'bn[0-9]': dict(weight_decay=0.0), 'bias': dict(weight_decay=0.0)}),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=3, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=30)
auto_scale_lr = dict(base_batch_size=100, enable=False)
