"""Fine-tuning of DeiT-S on ImageNet-1K with the training recipe of Swin, 100 epochs.

Deviation: queries and values keep their pre-trained biases. The published config sets
qkv_bias=False, probably by accident, so that the biases are dropped when weights are loaded.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/deit_small_p16_swin_ft_sz224_4xb256_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/deit_small.py',
    '../_base_/schedules/adamw_deit_small.py',
]

train_dataloader = dict(batch_size=256)
