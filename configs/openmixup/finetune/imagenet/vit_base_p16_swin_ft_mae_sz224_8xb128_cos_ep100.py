"""Fine-tuning of a ViT-B of MAE on ImageNet-1K with the training recipe of Swin, 100 epochs.

Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/vit_base_p16_swin_ft_mae_sz224_8xb128_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/vit_base_mae.py',
    '../_base_/schedules/adamw_swin_ft.py',
]

optim_wrapper = dict(optimizer=dict(lr=4e-3))
# Warm-up over 5 epochs from exactly 0.
param_scheduler = dict(warmup=5)
