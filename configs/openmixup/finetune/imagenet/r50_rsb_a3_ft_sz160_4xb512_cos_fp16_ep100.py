"""Fine-tuning of ResNet-50 on ImageNet-1K by RSB A3, 100 epochs at 160 pixels, tested at 224.

On 8 GPUs, as in the published example, the batch of each is halved and the rate still holds.
Targets are not cut at 0.2, which the RSB paper does and the published file does not.

Deviation: RandAugment fills corners with the mean colour in RGB order, as images are. The published
file gives it in BGR order, and its operations weight the colours of grey by BGR.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet/r50_rsb_a3_ft_sz160_4xb512_cos_fp16_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a3.py',
    '../_base_/models/r50_rsb.py',
    '../_base_/schedules/rsb_a3.py',
]
