"""A2MIM pre-training of DeiT-S on ImageNet-100, 800 epochs, masked before the eighth block.

Expect 87.24 top-1 after deit_small_p16_swin_ft_sz224_4xb256_cos_ep100 (published read-me).
Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/a2mim/imagenet100/deit_small_l8_sz192_4xb256_accu2_cos_ep800.py 4
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet100_sz192_rrc067.py',
    '../../_base_/models/a2mim/deit_small.py',
    '../../_base_/schedules/adamw_cos_vit.py',
]

model = dict(backbone=dict(mask_after='blocks.6'))
optim_wrapper = dict(accumulative_counts=2)
default_hooks = dict(reconstruction=dict(interval=100))
