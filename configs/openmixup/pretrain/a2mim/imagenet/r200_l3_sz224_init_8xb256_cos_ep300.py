"""A2MIM pre-training of ResNet-200 on ImageNet-1K, 300 epochs.

Expect 83.0 top-1 after r200_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300 (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/r200_l3_sz224_init_8xb256_cos_ep300.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc08.py',
    '../../_base_/models/a2mim/r200.py',
    '../../_base_/schedules/adamw_cos.py',
]

# Gamma has the full weight decay: of the published ResNet configs, only that of 100 epochs and that
# of ImageNet-100 have a rule for it.
optim_wrapper = dict(
    paramwise_cfg=dict(rules={'mask_token[.]token': dict(weight_decay=0.0, lr_mult=0.1)})
)
default_hooks = dict(reconstruction=dict(interval=10))
