"""A2MIM pre-training of ResNet-50 on ImageNet-1K, 300 epochs.

Expect 80.4 top-1 after r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300 (published read-me).
Expect 78.9 top-1 after r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100 (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_8xb256_cos_ep300.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc08.py',
    '../../_base_/models/a2mim/r50.py',
    '../../_base_/schedules/adamw_cos.py',
]

# Gamma has the full weight decay: of the published ResNet configs, only that of 100 epochs and that
# of ImageNet-100 have a rule for it.
optim_wrapper = dict(
    paramwise_cfg=dict(rules={'mask_token[.]token': dict(weight_decay=0.0, lr_mult=0.1)})
)
