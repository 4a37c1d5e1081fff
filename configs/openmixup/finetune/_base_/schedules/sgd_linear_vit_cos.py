"""SGD for linear probes of ViTs: lr 12 for 1024 images, 90 epochs.

The cosine is updated once per epoch.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=12.0, momentum=0.9, weight_decay=0.0),
)
param_scheduler = dict(
    type='OverlapCosineLR', stairs=True, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
