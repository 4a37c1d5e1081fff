"""LAMB for 4096 images a step, lr 3.2e-3 (2e-4 per 256), over 1600 epochs with 40 of warm-up.

The weight decay rises from 0.04 to 0.2. Each config adds beta2 and the rules of its norms.
Source: pretrain/utils/{arg_util,lr_control}.py and main.py of https://github.com/keyu-tian/SparK.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='Lamb', lr=3.2e-3, eps=1e-6, weight_decay=0.04, max_grad_norm=5.0),
    paramwise_cfg=dict(
        rules={
            'bias|gamma|mask_embeddings': dict(weight_decay=0.0),
            '^norms[.]|^neck[.]blocks[.][0-9]+[.][25][.]': dict(weight_decay=0.0),
        }
    ),
)
# From 0.5 % of the rate to all of it, and down to 0.1 %.
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup=40,
    warmup_ratio=0.005,
    eta_min=3.2e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
custom_hooks = [dict(type='WeightDecayHook', end=0.2)]
train_cfg = dict(by_epoch=True, max_epochs=1600)
auto_scale_lr = dict(base_batch_size=4096, enable=False)
