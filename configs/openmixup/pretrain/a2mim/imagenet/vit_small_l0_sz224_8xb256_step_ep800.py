"""A2MIM pre-training of ViT-S on ImageNet-1K, 800 epochs.

Expect 82.1 top-1 after vit_small_p16_swin_ft_simmim_sz224_8xb128_cos_ep200 (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/vit_small_l0_sz224_8xb256_step_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/a2mim/vit_small.py',
    '../../_base_/schedules/adamw_step_vit.py',
]
