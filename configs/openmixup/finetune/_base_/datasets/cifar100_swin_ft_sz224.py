"""CIFAR-100 enlarged to 224 pixels by the crop, with RandAugment and random erasing."""

train_dataloader = dict(
    batch_size=128,  # per GPU
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='a2mim.channels_last_collate'),
    dataset=dict(
        type='ImageDataset',
        source=dict(type='CIFAR', root='data/cifar100', name='cifar100', download=True),
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip'),
            dict(type='TimmAugment', policy='rand-m9-mstd0.5-inc1'),
        ],
        erase=dict(type='RandomErasing', image_size=224, p=0.25),
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
        source=dict(
            type='CIFAR', root='data/cifar100', name='cifar100', train=False, download=True
        ),
        pipeline=[
            dict(type='Resize', size=256, interpolation='bicubic'),
            dict(type='CenterCrop', size=224),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict()
