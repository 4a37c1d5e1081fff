"""A2MIM pre-training of ViT-L on ImageNet-1K, 800 epochs.

Expect 86.1 top-1 after vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep150 (published
read-me).
Expect 86.0 top-1 after vit_large_p16_swin_ft_simmim_sz224_8xb64_accu2_cos_ep100 (published
read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/vit_large_l0_sz224_8xb128_accu2_step_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/a2mim/vit_large.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=2)
