"""Fine-tuning of ResNet-101 on ImageNet-1K by RSB A2, 300 epochs at 224 pixels.

Drop path is 0.1 in OpenMixup, and 0.05 in the copy of this config in the paper's repository.
Targets are not thresholded at 0.2: the RSB paper does so, the published config does not.

Expect 81.3 top-1 from scratch (published read-me, "supervised").
Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/r101_rsb_a2_ft_sz224_8xb256_cos_fp16_ep300.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a2.py',
    '../_base_/models/r101_rsb.py',
    '../_base_/schedules/rsb_a2.py',
]

model = dict(backbone=dict(drop_path_rate=0.1))
