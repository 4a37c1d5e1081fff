"""Fine-tuning of Swin-T on ImageNet-1K at 224 pixels with its own training recipe, 100 epochs.

Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/swin_tiny_swin_ft_sz224_4xb128_accu4_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/swin_tiny.py',
    '../_base_/schedules/adamw_swin_tiny.py',
]
