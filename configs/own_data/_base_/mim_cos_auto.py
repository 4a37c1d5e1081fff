"""AdamW and a cosine at 128 images per step, over as many epochs as the number of images asks for.

``max_epochs='auto'`` makes about 62,600 optimiser steps, those of 100 epochs on ImageNet-1K at 2048
images a step, but 20 to 800 epochs, and 3000 steps at least (``a2mim/length.py`` has the source).

The learning rate lies between the published rule (3e-4 per 512 images: 7.5e-5) and that of the
quick start (2e-3 for 64). It is not tuned. A small data set gives few steps, so that the learning
rate is high and the gradient is clipped.
"""

_base_ = ['../../openmixup/pretrain/_base_/default_runtime.py']

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            '(bn[0-9]|norm[0-9]*|downsample[.]1)[.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
            'mask_token': dict(weight_decay=0.0, lr_mult=0.1),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=0.05, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs='auto')
auto_scale_lr = dict(base_batch_size=128, enable=False)

# A run of few images has many short epochs.
default_hooks = dict(checkpoint=dict(interval=None), reconstruction=dict(interval=None))
