"""Fine-tuning of Swin-T on ImageNet-100 at 224 pixels with its own training recipe, 100 epochs.

Deviation: the published config inherits from a missing file. This config is the one for ImageNet-1K
with twice the images per GPU and half the accumulation.
Run: bash tools/dist_train_ft_4gpu.sh \
  configs/openmixup/finetune/imagenet100/swin_tiny_swin_ft_sz224_4xb256_accu2_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_swin_ft_sz224.py',
    '../_base_/models/swin_tiny.py',
    '../_base_/schedules/adamw_swin_tiny.py',
]

model = dict(data_preprocessor=dict(mixup=dict(num_classes=100)), backbone=dict(num_classes=100))
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(accumulative_counts=2)
