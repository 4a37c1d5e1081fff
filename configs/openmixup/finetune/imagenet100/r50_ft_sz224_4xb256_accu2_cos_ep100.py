"""Fine-tuning of ResNet-50 on ImageNet-100 with crops and flips only, 100 epochs.

Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet100/r50_ft_sz224_4xb256_accu2_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_sz224.py',
    '../_base_/models/r50.py',
    '../_base_/schedules/adamw_resnet.py',
]

model = dict(backbone=dict(num_classes=100))
train_dataloader = dict(batch_size=256, num_workers=10)
optim_wrapper = dict(accumulative_counts=2)
