"""CIFAR-10 with 50 labels per class; rates are chosen on 2,000 images that no training has.

Nothing is measured during training: one of validation and test is evaluated after it.
"""

train_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(
            type='SplitImageFolder', root='data/cifar10/train', part='train', labels_per_class=50
        ),
        size=32,
        crop=dict(scale=(0.67, 1.0)),
        flip=0.5,
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(
            type='SplitImageFolder', root='data/cifar10/train', part='val', labels_per_class=200
        ),
        size=32,
    ),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.whole_batch'),
    dataset=dict(
        type='TensorImageDataset',
        source=dict(type='ImageFolder', root='data/cifar10/val', with_labels=True),
        size=32,
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
    type='WarmupCosineLR', warmup=2, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=200, val_begin=201)
auto_scale_lr = dict(base_batch_size=100, enable=False)
