"""A2MIM pre-training of DeiT-S on ImageNet-100, 800 epochs, that reconstructs LBP.

Instead of pixels it predicts the code of their local binary patterns, of 8 neighbours at a radius
of 8 pixels.

Deviation: no published run uses this target, which is an option of the published data set.
Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/a2mim/imagenet100/deit_small_l8_lbp_sz192_4xb256_accu2_cos_ep800.py 4
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet100_sz192_rrc067.py',
    '../../_base_/models/a2mim/deit_small.py',
    '../../_base_/schedules/adamw_cos_vit.py',
]

model = dict(
    backbone=dict(mask_after='blocks.6'),
    head=dict(target=dict(type='LBPTarget')),
)
optim_wrapper = dict(accumulative_counts=2)
default_hooks = dict(reconstruction=dict(interval=100))
