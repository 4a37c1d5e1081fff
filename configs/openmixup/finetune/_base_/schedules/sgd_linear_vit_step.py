"""SGD for linear probes of ViTs: lr 12 for 1024 images, a tenth after epochs 60 and 80 of 90."""

optim_wrapper = dict(
    type='AmpOptimWrapper',  # published in float16; bfloat16 is used where the GPU supports it
    constructor='ParamRuleConstructor',
    optimizer=dict(type='SGD', lr=12.0, momentum=0.9, weight_decay=0.0),
)
param_scheduler = dict(
    type='WarmupStepLR',
    milestones=[60, 80],
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
