"""SGD for linear probes: lr 0.1 for 256 images, 100 epochs.

The cosine is updated once per epoch.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
)
param_scheduler = dict(
    type='OverlapCosineLR', stairs=True, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=256, enable=False)
