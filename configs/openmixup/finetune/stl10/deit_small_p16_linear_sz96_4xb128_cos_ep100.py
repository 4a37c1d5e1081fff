"""Linear probe of DeiT-S on STL-10, 100 epochs.

Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_4gpu.sh \
         configs/openmixup/finetune/stl10/deit_small_p16_linear_sz96_4xb128_cos_ep100.py CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/stl10_swin_ft_sz96.py',
    '../_base_/models/deit_small_linear.py',
    '../_base_/schedules/sgd_linear_cos.py',
]

model = dict(
    data_preprocessor=dict(mixup=dict(num_classes=10)), backbone=dict(img_size=96, num_classes=10)
)
optim_wrapper = dict(optimizer=dict(lr=0.1))
auto_scale_lr = dict(base_batch_size=512)
