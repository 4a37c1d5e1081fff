"""AdamW with layer decay for DeiT-S: lr 8e-3 for 1024 images (2e-3 per 256), 100 epochs.

A comment in the published config gives a learning rate of 8e-4; its formula gives 8e-3, which this
config uses. The norm before the head has the full learning rate, as the head has; timm puts it in
the last block.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='AdamW',
        lr=8e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        layer_decay=0.65,
        layers=[
            r'cls_token|pos_embed|patch_embed',
            r'blocks\.0\.',
            r'blocks\.1\.',
            r'blocks\.2\.',
            r'blocks\.3\.',
            r'blocks\.4\.',
            r'blocks\.5\.',
            r'blocks\.6\.',
            r'blocks\.7\.',
            r'blocks\.8\.',
            r'blocks\.9\.',
            r'blocks\.10\.',
            r'blocks\.11\.',
        ],
        rules={
            '(bn|ln|gn)[0-9]*[.](weight|bias)': dict(weight_decay=0.0),
            'norm': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),  # relative position tables too
            'cls_token': dict(weight_decay=0.0),
            'pos_embed': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
        },
    ),
)
# Warm-up over 5 epochs from exactly 0.
param_scheduler = dict(
    type='WarmupCosineLR', warmup=5, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
