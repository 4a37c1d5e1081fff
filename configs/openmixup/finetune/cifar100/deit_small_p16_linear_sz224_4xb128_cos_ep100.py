"""Linear probe of DeiT-S on CIFAR-100 enlarged to 224 pixels, 100 epochs.

Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/cifar100/deit_small_p16_linear_sz224_4xb128_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/cifar100_swin_ft_sz224.py',
    '../_base_/models/deit_small_linear.py',
    '../_base_/schedules/sgd_linear_cos.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        mixup=dict(num_classes=100),
    ),
    backbone=dict(num_classes=100),
)
optim_wrapper = dict(optimizer=dict(lr=1.0))
auto_scale_lr = dict(base_batch_size=512)
