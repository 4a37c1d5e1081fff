"""SGD for probes of all stages: lr 0.01 for 256 images, a tenth after epochs 30 and 60 of 90."""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(
    type='WarmupStepLR',
    milestones=[30, 60, 90],
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
auto_scale_lr = dict(base_batch_size=256, enable=False)
