"""A2MIM pre-training of ViT-S on ImageNet-1K, 800 epochs, on one GPU.

Ours: the config for 8 GPUs, with its global batch of 2048 reached by gradient accumulation. No
layer mixes images, and the losses see 256 images at a time, as on each of 8 GPUs, so that only the
random draws differ. No result was published or measured for it.

Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/vit_small_l0_sz224_1xb256_accu8_step_ep800.py 1
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/a2mim/vit_small.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

optim_wrapper = dict(accumulative_counts=8)
