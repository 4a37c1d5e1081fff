"""Fine-tuning of ConvNeXt-T on ImageNet-1K by RSB A3, 100 epochs at 160 pixels, tested at 224.

Unlike for ResNets, the cosine takes a step per iteration and layers are dropped.
Targets are not cut at 0.2, which the RSB paper does and the published file does not.

Deviation: RandAugment fills corners with the mean colour in RGB order, as images are. The published
file gives it in BGR order, and its operations weight the colours of grey by BGR.
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
