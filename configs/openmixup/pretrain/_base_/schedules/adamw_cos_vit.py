"""AdamW and a cosine for ViTs on small data sets: lr 8e-4 for 2048 images (2e-4 per 512)."""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='AdamW',
        lr=8e-4,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05,
        fused=True,
    ),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        rules={
            '(bn|ln|gn)[0-9]*[.](weight|bias)': dict(weight_decay=0.0),
            'norm': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),  # relative position tables too
            'mask_token': dict(weight_decay=0.0),
            'pos_embed': dict(weight_decay=0.0),
            'cls_token': dict(weight_decay=0.0),
            'gamma': dict(weight_decay=0.0),
        }
    ),
)
# Warm-up over 10 epochs from exactly 0.
param_scheduler = dict(
    type='WarmupCosineLR', warmup=10, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
