"""Fine-tuning of DeiT-S on ImageNet-100 by the recipe of Swin, 100 epochs.

Deviation: queries and values keep the biases of pre-training. The published file sets
qkv_bias=False, which looks accidental: they are dropped when weights are loaded.
Deviation: tables of relative positions that were trained at 192 pixels are resized. The published
loader leaves tables of another size out, so that they start from zero.
Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet100/deit_small_p16_swin_ft_sz224_4xb256_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_swin_ft_sz224.py',
    '../_base_/models/deit_small.py',
    '../_base_/schedules/adamw_deit_small.py',
]

model = dict(
    data_preprocessor=dict(mixup=dict(num_classes=100)),
    backbone=dict(num_classes=100),
)
train_dataloader = dict(batch_size=256)
