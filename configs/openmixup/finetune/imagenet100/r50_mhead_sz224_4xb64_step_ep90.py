"""Linear probes of all four stages of ResNet-50 on ImageNet-100, 90 epochs.

Each stage is averaged down to some 9,000 numbers. The rate would fall once more after the last
epoch.

Deviation: the images and the 100 classes of ImageNet-100, in whose folder the published file is. It
reads ImageNet-1K and has 1000 classes.
Deviation: colours are not shifted along their principal components (AlexNet's noise), which the
published file does after its colour jitter; torchvision has no such transform.
Deviation: batch statistics of the frozen trunk stay as they are. In the published file they go on
moving, which changes the features that are to be probed.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/imagenet100/r50_mhead_sz224_4xb64_step_ep90.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet100_color_sz224.py',
    '../_base_/models/r50_stages.py',
    '../_base_/schedules/sgd_stages.py',
]

model = dict(num_classes=100)
