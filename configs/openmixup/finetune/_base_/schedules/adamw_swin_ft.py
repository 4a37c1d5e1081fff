"""AdamW with layer decay for ViTs: lr 1e-2 for 1024 images (2.5e-3 per 256), 100 epochs.

A comment in the published configs gives a learning rate of 10e-4; their formula gives 1e-2, which
this config uses. The minimum of the cosine is the same for every layer. The first layers of a ViT-L
start below it, so that their rates rise during training, as in the published runs.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='AdamW',
        lr=1e-2,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        layer_decay=0.65,
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
# Warm-up over 20 epochs from exactly 0.
param_scheduler = dict(
    type='WarmupCosineLR', warmup=20, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
