"""Linear probe of the ViT-S of the paper on ImageNet-1K, 90 epochs.

Deviation: the published file does not load, because its base of the data is missing: these are its
crops and flips.
Deviation: all 1000 classes are told apart. The published file has 100 outputs for ImageNet-1K.
Deviation: neither mixup nor cutmix, which the published file inherits from fine-tuning although it
says that it follows the probes of MoCo v3. Targets are smoothed by 0.1 as there.
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
