"""AdamW and a cosine for convolutional backbones: lr 1.2e-3 for 2048 images (3e-4 per 512).

Norms named ``norm`` or ``downsample.1`` have weight decay, since no published rule names them. Each
config adds the rules of its mask token.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='AdamW',
        lr=1.2e-3,
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
# Warm-up over 10 epochs from exactly 0.
param_scheduler = dict(
    type='WarmupCosineLR', warmup=10, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=300)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
