"""Fine-tuning of ResNet-50 on ImageNet-1K at 224 pixels, with Swin's augmentations, 100 epochs.

Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/r50_swin_ft_sz224_4xb256_accu2_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swin_ft_sz224.py',
    '../_base_/models/r50_swin.py',
    '../_base_/schedules/adamw_resnet.py',
]

train_dataloader = dict(batch_size=256, num_workers=10)
optim_wrapper = dict(accumulative_counts=2)
