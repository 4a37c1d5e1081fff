"""Fine-tuning of ResNet-18 with five labelled patches of each photograph, seconds on a CPU.

Run: python tools/train.py configs/quickstart/finetune_resnet18_1xb35-cos-40e_photos-64px.py \
         --pretrained CKPT      (without it: the same from scratch)
"""

_base_ = ['_base_/runtime.py', '_base_/few_labels.py']

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules={
            '(bn[0-9]|downsample[.]1)[.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=4, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=40)
auto_scale_lr = dict(base_batch_size=35, enable=False)
