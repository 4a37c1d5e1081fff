"""AdamW and a cosine for ConvNeXt as in SparK: lr 4e-3 for 4096 images, 300 epochs.

A step accumulates the gradients of two iterations on 8 GPUs. An exponential moving average of the
weights is tested and saved.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    accumulative_counts=2,
    optimizer=dict(
        type='AdamW',
        lr=4e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(
        rules={
            '(bn|ln|gn)[0-9]*[.](weight|bias)': dict(weight_decay=0.0),
            'norm': dict(weight_decay=0.0),  # not those named downsample.0 and stem.1
            'bias': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='OverlapCosineLR',
    warmup=5,
    warmup_ratio=1e-5,
    eta_min=1e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
custom_hooks = [dict(type='WarmupEMAHook', momentum=1e-4, warmup_epochs=20)]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
auto_scale_lr = dict(base_batch_size=4096, enable=False)
