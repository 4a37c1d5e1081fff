"""A2MIM pre-training of ViT-B on ImageNet-1K, 800 epochs.

Expect 84.2 top-1 after 100 epochs of fine-tuning (published read-me).
Run: bash tools/dist_train.sh \
         configs/openmixup/pretrain/a2mim/imagenet/vit_base_l0_sz224_8xb128_accu2_step_ep800.py 8
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/imagenet_sz224_rrc067.py',
    '../../_base_/models/a2mim/vit_base.py',
    '../../_base_/schedules/adamw_step_vit.py',
]

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(accumulative_counts=2)
