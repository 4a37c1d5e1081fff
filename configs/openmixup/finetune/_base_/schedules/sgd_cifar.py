"""SGD from scratch on small images: lr 0.1 for 100 images, 200 epochs.

The cosine is updated once per epoch.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001),
)
param_scheduler = dict(
    type='OverlapCosineLR', stairs=True, eta_min=0.0, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
auto_scale_lr = dict(base_batch_size=100, enable=False)
