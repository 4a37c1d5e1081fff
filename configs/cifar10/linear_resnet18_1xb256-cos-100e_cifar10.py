"""Linear probe of ResNet-18 on CIFAR-10 at 32 pixels, 100 epochs on one GPU.

The optimiser is that of the published linear probes on CIFAR, which resize the images to 224
pixels.
Run: python tools/train.py configs/cifar10/linear_resnet18_1xb256-cos-100e_cifar10.py \
         --pretrained CKPT
"""

_base_ = [
    '../openmixup/finetune/_base_/default_runtime.py',
    '_base_/cifar10_classes.py',
    '_base_/resnet18_classifier.py',
]

model = dict(frozen_trunk=True, loss=dict(label_smoothing=0.0))
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=0, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=256, enable=False)
