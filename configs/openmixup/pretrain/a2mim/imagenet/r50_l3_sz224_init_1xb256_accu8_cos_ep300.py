"""A2MIM pre-training of ResNet-50 on ImageNet-1K, 300 epochs, on one GPU.

Ours: the config for 8 GPUs, with its global batch of 2048 reached by gradient accumulation. Batch
norm computes its statistics over 256 images instead of 2048; both losses see 256 images at a time,
as on each of 8 GPUs. No result was published or measured for it.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/r50_l3_sz224_init_1xb256_accu8_cos_ep300.py 1
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
    accumulative_counts=8,
    paramwise_cfg=dict(rules={'mask_token[.]token': dict(weight_decay=0.0, lr_mult=0.1)}),
)
