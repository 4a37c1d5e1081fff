"""Linear probe of the ViT-S of the paper on ImageNet-1K, 90 epochs.

Deviation: the published config does not load, because its dataset base is missing. This config has
the crops and flips of that base.
Deviation: the head has 1000 outputs. The published config has 100 outputs for ImageNet-1K.
Deviation: no mixup and no cutmix. The published config inherits both from fine-tuning, although it
says that it follows the linear probes of MoCo v3. Targets are smoothed by 0.1, as published.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/vit_small_p16_linear_sz224_8xb128_step_ep90.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_sz224.py',
    '../_base_/models/vit_small_linear.py',
    '../_base_/schedules/sgd_linear_vit_step.py',
]

train_dataloader = dict(batch_size=128, num_workers=8)
