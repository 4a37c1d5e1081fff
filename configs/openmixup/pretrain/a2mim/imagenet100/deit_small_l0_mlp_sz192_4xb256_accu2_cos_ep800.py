"""A2MIM pre-training of DeiT-S on ImageNet-100, 800 epochs, with a larger decoder.

An ablation: masked after the patch embedding, with a depth-wise convolution before the decoder.

Deviation: the published config does not load, because it merges the options of a decoder into None
without deleting it. This config sets those options.
Run: bash tools/dist_train.sh \
  configs/openmixup/pretrain/a2mim/imagenet100/deit_small_l0_mlp_sz192_4xb256_accu2_cos_ep800.py 4
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet100_sz192_rrc067.py',
    '../../_base_/models/a2mim/deit_small.py',
    '../../_base_/schedules/adamw_cos_vit.py',
]

model = dict(neck=dict(block=dict(type='DepthwiseBlock')))
optim_wrapper = dict(accumulative_counts=2)
default_hooks = dict(reconstruction=dict(interval=100))
