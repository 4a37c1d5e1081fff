"""AdamW and a cosine for ResNet-50: lr 5e-3 for 2048 images (1.25e-3 per 512), 100 epochs."""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='AdamW',
        lr=5e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(
        rules={
            '(bn|ln|gn)[0-9]*[.](weight|bias)': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='OverlapCosineLR',
    warmup=20,
    warmup_ratio=2e-4,
    eta_min=1e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
