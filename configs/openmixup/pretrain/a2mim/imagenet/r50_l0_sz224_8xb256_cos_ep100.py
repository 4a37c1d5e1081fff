"""A2MIM pre-training of ResNet-50 on ImageNet-1K, 100 epochs, masked after the stem.

An ablation: the mask token is inserted before the first stage instead of the last, without gamma.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/r50_l0_sz224_8xb256_cos_ep100.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc08.py',
    '../../_base_/models/a2mim/r50.py',
    '../../_base_/schedules/adamw_cos.py',
]

model = dict(backbone=dict(mask_after='maxpool', mask_token=dict(gamma_init=None)))
train_cfg = dict(max_epochs=100)
optim_wrapper = dict(paramwise_cfg=dict(rules={'mask_token': dict(weight_decay=0.0, lr_mult=0.1)}))
default_hooks = dict(reconstruction=dict(interval=10))
