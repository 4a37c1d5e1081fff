"""Few labelled digits of each class, drawn by the seed; 300 others to validate, 500 to test on.

Each epoch is one step on all of them. Learning rates are chosen on the validation digits alone.
"""

train_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='Digits', split='train', labels_per_class=2),
        pipeline=[dict(type='RandomResizedCrop', size=16, scale=(0.8, 1.0))],
    ),
)
val_dataloader = dict(
    batch_size=500,
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
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='Digits', split='test'),
        pipeline=[dict(type='Resize', size=16, interpolation='bilinear')],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
test_cfg = dict()

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[77.0] * 3, std=[96.0] * 3),
    loss=dict(type='CrossEntropyLoss', label_smoothing=0.1),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParamRuleConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules={
            'norm|bn[0-9]|downsample[.]1|conv1[.][14]': dict(weight_decay=0.0),
            'bias|pos_embed': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=30, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=300)
auto_scale_lr = dict(base_batch_size=20, enable=False)
