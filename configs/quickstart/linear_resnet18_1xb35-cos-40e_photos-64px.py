"""Linear probe of ResNet-18 with five labelled patches of each photograph, seconds on a CPU.

The backbone is frozen, so that the accuracy measures the pre-trained features.
Run: python tools/train.py configs/quickstart/linear_resnet18_1xb35-cos-40e_photos-64px.py \
         --pretrained CKPT      (without it: features of random weights)
"""

_base_ = ['_base_/runtime.py', '_base_/few_labels.py']

model = dict(frozen_trunk=True)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-2, weight_decay=0.0, fused=True),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=0, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=40)
auto_scale_lr = dict(base_batch_size=35, enable=False)
