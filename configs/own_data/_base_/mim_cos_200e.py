"""AdamW and a cosine over 200 epochs at 128 images per step.

The learning rate lies between the published rule (3e-4 per 512 images: 7.5e-5) and that of the
quick start (2e-3 for 64). It is not tuned. A small data set gives few steps, so that the learning
rate is high and the gradient is clipped.
"""

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
    type='WarmupCosineLR', warmup=10, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=200)
auto_scale_lr = dict(base_batch_size=128, enable=False)
