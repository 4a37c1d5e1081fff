"""SGD with few labels: lr 0.1 for 256 images, a fifth after epochs 12 and 16 of 20."""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001),
)
param_scheduler = dict(
    type='WarmupStepLR',
    milestones=[12, 16],
    gamma=0.2,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
auto_scale_lr = dict(base_batch_size=256, enable=False)
