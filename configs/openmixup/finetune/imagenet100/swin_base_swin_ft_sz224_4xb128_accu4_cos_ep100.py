"""Fine-tuning of Swin-B on ImageNet-100 at 224 pixels with its own training recipe, 100 epochs.

Deviation: the window size is 7, which divides 56, 28, 14 and 7 positions; relative position tables
trained with windows of 6 are resized. The published config keeps the window size of its base, 6,
which is meant for 192 pixels.
Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet100/swin_base_swin_ft_sz224_4xb128_accu4_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_swin_ft_sz224.py',
    '../_base_/models/swin_base.py',
    '../_base_/schedules/adamw_swin_base.py',
]

model = dict(data_preprocessor=dict(mixup=dict(num_classes=100)), backbone=dict(num_classes=100))
