"""Digits with 5 labels per class, 400 steps of all of them; validation and test are apart.

Nothing is measured during training: one of the two is evaluated after it.
"""

train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(type='Digits', split='train', labels_per_class=5),
        size=16,
        crop=dict(scale=(0.8, 1.0)),
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(type='TensorImageDataset', source=dict(type='Digits', split='val'), size=16),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(type='TensorImageDataset', source=dict(type='Digits', split='test'), size=16),
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
            'bias|pos_embed': dict(weight_decay=0.0),
        }
    ),
)
param_scheduler = dict(
    type='WarmupCosineLR', warmup=40, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=400, val_begin=401)
auto_scale_lr = dict(base_batch_size=50, enable=False)
