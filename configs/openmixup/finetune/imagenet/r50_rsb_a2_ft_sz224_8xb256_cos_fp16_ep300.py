"""Fine-tuning of ResNet-50 on ImageNet-1K by RSB A2, 300 epochs at 224 pixels.

The only RSB config that tests and saves an exponential moving average of the weights. Targets are
not thresholded at 0.2: the RSB paper does so, the published config does not.

Expect 79.8 top-1 from scratch (published read-me, "supervised").
Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/r50_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a2.py',
    '../_base_/models/r50_rsb.py',
    '../_base_/schedules/rsb_a2.py',
]

model = dict(backbone=dict(drop_path_rate=0.05))
custom_hooks = [dict(type='WarmupEMAHook', momentum=1e-4, warmup_epochs=20)]
