"""CIFAR-10 enlarged to 224 pixels by the crop, and flipped."""

train_dataloader = dict(
    batch_size=64,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', download=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar10', name='cifar10', train=False, download=True),
        pipeline=[
            dict(type='Resize', size=256, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
