"""Fine-tuning of ConvNeXt-T on ImageNet-1K by RSB A3, 100 epochs at 160 pixels, tested at 224.

Unlike the ResNet configs of RSB A3, it updates the cosine every iteration and uses drop path.
Targets are not thresholded at 0.2: the RSB paper does so, the published config does not.

Deviation: RandAugment fills uncovered corners with the mean colour in RGB order, the order of the
images. The published config gives it in BGR order, and its operations convert to greyscale with the
channel weights of BGR order.
Run: bash tools/dist_train_ft_8gpu.sh \
         configs/openmixup/finetune/imagenet/convnext_t_rsb_a3_ft_sz160_8xb256_cos_fp16_ep100.py \
         CKPT
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_rsb_a3.py',
    '../_base_/models/convnext_t.py',
    '../_base_/schedules/rsb_a3.py',
]

train_dataloader = dict(batch_size=256)
model = dict(
    data_preprocessor=dict(mixup=dict(mixup_alpha=0.1, label_smoothing=0.0)),
    loss=dict(_delete_=True, type='BinaryCrossEntropy', smoothing=0.0, sum_classes=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        rules={'norm': dict(weight_decay=0.0), 'gamma': dict(weight_decay=0.0)},
    )
)
param_scheduler = dict(stairs=False)
