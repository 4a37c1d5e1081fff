"""Digits with 2 labels per class, 450 steps of all of them; validation and test are apart.

Nothing is measured during training: one of the two is evaluated after it.
"""

train_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='Digits', split='train', labels_per_class=2),
        pipeline=[
            dict(type='RandomResizedCrop', size=16, scale=(0.6, 1.0), ratio=(0.8, 1.25)),
        ],
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='Digits', split='val'),
        pipeline=[dict(type='Resize', size=16, interpolation='bilinear')],
    ),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='Digits', split='test'),
        pipeline=[dict(type='Resize', size=16, interpolation='bilinear')],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules={
            'norm[0-9]?[.]|bn[0-9][.]|downsample[.][01][.]': dict(weight_decay=0.0),
            'bias': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=20, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=450, val_begin=451)
auto_scale_lr = dict(base_batch_size=20, enable=False)
