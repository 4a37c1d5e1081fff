"""Linear probe of the ViT-S of the paper on ImageNet-100, 90 epochs.

Deviation: the published config does not load, because its dataset base is missing, and is meant for
all of ImageNet-1K with 100 outputs. This config has the crops and flips of that base on the images
of ImageNet-100.
Deviation: the learning rate follows a cosine to 0, as the name says. The published config has steps
after 60 and 80 epochs.
Deviation: no mixup and no cutmix. The published config inherits both from fine-tuning, although it
says that it follows the linear probes of MoCo v3. Targets are smoothed by 0.1, as published.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet100/vit_small_p16_linear_sz224_8xb128_cos_ep90.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_sz224.py',
    '../_base_/models/vit_small_linear.py',
    '../_base_/schedules/sgd_linear_vit_cos.py',
]

model = dict(backbone=dict(num_classes=100))
train_dataloader = dict(batch_size=128, num_workers=8)
