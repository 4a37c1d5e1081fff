"""Fine-tuning of ResNet-152 on ImageNet-1K by RSB A3, 100 epochs at 160 pixels, tested at 224.

Targets are not thresholded at 0.2: the RSB paper does so, the published config does not.

Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/r152_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a3.py',
    '../_base_/models/r152_rsb.py',
    '../_base_/schedules/rsb_a3.py',
]

train_dataloader = dict(batch_size=256)
