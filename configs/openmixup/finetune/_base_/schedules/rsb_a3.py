"""RSB A3: LAMB at 8e-3 for 2048 images, 100 epochs.

The cosine is updated once per epoch, the warm-up every iteration. LAMB itself clips the gradient to
a norm of 1, and takes plain Adam steps for parameters without weight decay.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(
        type='Lamb', lr=8e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.02, max_grad_norm=1.0
    ),
    paramwise_cfg=dict(
        rules={
            '(bn|gn)[0-9]*[.](weight|bias)': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='OverlapCosineLR',
    stairs=True,
    warmup=5,
    warmup_ratio=1e-5,
    eta_min=1e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
