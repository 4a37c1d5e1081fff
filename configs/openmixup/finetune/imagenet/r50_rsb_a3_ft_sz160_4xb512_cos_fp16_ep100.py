"""Fine-tuning of ResNet-50 on ImageNet-1K by RSB A3, 100 epochs at 160 pixels, tested at 224.

On 8 GPUs, as in the published example, the batch per GPU is halved and the learning rate stays
valid. Targets are not thresholded at 0.2: the RSB paper does so, the published config does not.

Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a3.py',
    '../_base_/models/r50_rsb.py',
    '../_base_/schedules/rsb_a3.py',
]
