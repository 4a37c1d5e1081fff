"""Linear probe of the ViT-S of the paper on ImageNet-100, 90 epochs.

Deviation: the published file does not load, because its base of the data is missing, and means all
of ImageNet-1K with 100 outputs: these are its crops and flips on the images of ImageNet-100.
Deviation: a cosine to 0, as the name says. The published file has steps after 60 and 80 epochs.
Deviation: neither mixup nor cutmix, which the published file inherits from fine-tuning although it
says that it follows the probes of MoCo v3. Targets are smoothed by 0.1 as there.
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
