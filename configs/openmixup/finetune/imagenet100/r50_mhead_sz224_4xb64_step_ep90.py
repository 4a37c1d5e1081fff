"""Linear probes of all four stages of ResNet-50 on ImageNet-100, 90 epochs.

Each stage is average-pooled to about 9,000 features. The last milestone of the learning rate lies
after the last epoch.

Deviation: this config reads ImageNet-100 and has 100 classes, as its folder says. The published
config, in the same folder, reads ImageNet-1K and has 1000 classes.
Deviation: no PCA lighting noise (AlexNet). The published config applies it after its colour jitter;
torchvision has no such transform.
Deviation: the frozen backbone keeps its batch statistics. The published config updates them during
training, which changes the probed features.
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
