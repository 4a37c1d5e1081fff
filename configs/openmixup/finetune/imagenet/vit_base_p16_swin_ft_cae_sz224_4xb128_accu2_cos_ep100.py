"""Fine-tuning of a ViT-B of CAE on ImageNet-1K with the training recipe of Swin, 100 epochs.

Queries, keys and values have no bias. A comment in the published config gives a learning rate of
8e-4; its formula gives 8e-3, which this config uses.

Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet/vit_base_p16_swin_ft_cae_sz224_4xb128_accu2_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/vit_base.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

model = dict(backbone=dict(qkv_bias=False))
optim_wrapper = dict(accumulative_counts=2, optimizer=dict(lr=8e-3))
# Warm-up over 5 epochs from exactly 0.
param_scheduler = dict(warmup=5)
