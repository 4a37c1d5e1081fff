"""Fine-tuning of Swin-B on ImageNet-1K at 192 pixels with its own training recipe, 100 epochs.

Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/swin_base_swin_ft_sz192_4xb128_accu4_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz192.py',
    '../_base_/models/swin_base.py',
    '../_base_/schedules/adamw_swin_base.py',
]

# The window size of pre-training at 192 pixels.
model = dict(backbone=dict(img_size=192, window_size=6))
